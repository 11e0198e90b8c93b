package dev.evalops.examples.notes;

import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.outbox.Outbox;
import java.io.IOException;
import java.sql.SQLException;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.PropertyNamingStrategies.SnakeCaseStrategy;
import tools.jackson.databind.annotation.JsonNaming;

/**
 * {@code /v1/parked-changes}: what NATS has refused, for an operator: listed, and sent again once the cause is mended.
 */
final class ParkedChanges {
  private static final int MAX_LISTED = 100;

  private final Outbox outbox;

  @JsonNaming(SnakeCaseStrategy.class)
  private record Item(String id, String aggregate, String reason, Instant parkedAt) {}

  ParkedChanges(Outbox outbox) {
    this.outbox = outbox;
  }

  void list(HttpExchange exchange) throws IOException, SQLException {
    List<Item> parked = outbox.parked(MAX_LISTED).stream()
        .map(each -> new Item(each.id(), each.lane(), each.reason(), each.parkedAt()))
        .toList();
    HttpResponses.json(exchange, 200, Map.of("parked", parked));
  }

  void requeue(HttpExchange exchange) throws IOException, SQLException {
    if (!outbox.requeue(HttpRequests.pathUuid(exchange, "id").toString())) {
      throw ServiceException.of(NOT_FOUND, "no such parked change").op("parked.requeue");
    }
    HttpResponses.noContent(exchange);
  }
}
