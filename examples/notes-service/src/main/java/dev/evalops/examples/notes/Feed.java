package dev.evalops.examples.notes;

import static dev.evalops.runtime.errors.ErrorCode.INVALID_INPUT;
import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;

import com.google.protobuf.Timestamp;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.examples.notes.events.NoteChanged;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import java.io.IOException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.function.Predicate;
import javax.sql.DataSource;
import tools.jackson.databind.PropertyNamingStrategies.SnakeCaseStrategy;
import tools.jackson.databind.annotation.JsonNaming;

/** What was heard on the bus, each change once however often it comes, and {@code GET /v1/feed}, the newest first. */
final class Feed {
  private final DataSource db;
  private final Predicate<String> isOnFor;

  @JsonNaming(SnakeCaseStrategy.class)
  private record Item(
      UUID noteId, long version, String operation, String title, Instant changedAt) {}

  /** Organizations that it is not on for do not see that there is a feed. */
  Feed(DataSource db, Predicate<String> isOnFor) {
    this.db = db;
    this.isOnFor = isOnFor;
  }

  /** Takes in a change; one that is known, by its note and version, changes nothing. */
  void apply(Event event, Connection tx) throws SQLException {
    String sql = "INSERT INTO feed (note_id, version, seq, organization_id, operation, title,"
        + " changed_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    NoteChanged changed = event.payload(NoteChanged.getDefaultInstance());
    Timestamp at = changed.getChangedAt();
    try (PreparedStatement insert = tx.prepareStatement(sql)) {
      insert.setObject(1, UUID.fromString(event.aggregateId().orElseThrow()));
      insert.setLong(2, event.version().orElseThrow());
      insert.setLong(3, event.sequence().orElseThrow());
      insert.setString(4, event.organizationId().orElseThrow());
      insert.setString(5, event.operation().orElseThrow());
      insert.setString(6, changed.getTitle());
      insert.setObject(
          7, Instant.ofEpochSecond(at.getSeconds(), at.getNanos()).atOffset(ZoneOffset.UTC));
      insert.execute();
    }
  }

  void read(HttpExchange exchange) throws IOException, SQLException {
    String organization = Actor.of(exchange).organizationId();
    if (!isOnFor.test(organization)) {
      throw ServiceException.of(NOT_FOUND).op("feed.read");
    }
    long limit = HttpRequests.longQuery(exchange, "limit", 20);
    if (limit < 1 || limit > 100) {
      throw ServiceException.of(INVALID_INPUT, "limit must be from 1 to 100").op("feed.read");
    }
    HttpResponses.json(exchange, 200, Map.of("changes", newest(organization, limit)));
  }

  private List<Item> newest(String organization, long limit) throws SQLException {
    String sql = "SELECT note_id, version, operation, title, changed_at FROM feed"
        + " WHERE organization_id = ? ORDER BY seq DESC LIMIT ?";
    try (Connection connection = db.getConnection();
        PreparedStatement select = connection.prepareStatement(sql)) {
      select.setString(1, organization);
      select.setLong(2, limit);
      List<Item> items = new ArrayList<>();
      try (ResultSet row = select.executeQuery()) {
        while (row.next()) {
          items.add(new Item(
              row.getObject(1, UUID.class),
              row.getLong(2),
              row.getString(3),
              row.getString(4),
              row.getObject(5, OffsetDateTime.class).toInstant()));
        }
      }
      return items;
    }
  }
}
