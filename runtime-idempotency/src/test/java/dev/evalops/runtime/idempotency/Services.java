package dev.evalops.runtime.idempotency;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import javax.sql.DataSource;

/** Services on real sockets whose callers are who their token says, and requests to them. */
final class Services {
  static final HttpClient CLIENT = HttpClient.newBuilder()
      .version(HttpClient.Version.HTTP_1_1)
      .connectTimeout(Duration.ofSeconds(10))
      .build();

  private Services() {}

  /** The token {@code alice@org} is the user alice of the organization org. */
  static Auth auth() {
    return Auth.of((token, scopes) -> {
      String[] parts = token.split("@", 2);
      return Optional.of(VerifiedToken.of(new Actor("user", parts[0], parts[1]), Set.of()));
    });
  }

  static HttpService serve(Idempotency idempotency, HttpService.Handler handler) {
    return HttpService.builder(0)
        .host("localhost")
        .maxBody(100 << 20)
        .handle("/v1", handler, auth().require(), idempotency.filter())
        .start();
  }

  /**
   * {@code POST /v1/plain} has an effect in a transaction of its own, {@code POST /v1/tx} in that of the request,
   * {@code POST /v1/caught} too, with a second that fails and is caught; each answer is another.
   */
  static HttpService.Handler effects(DataSource db) {
    return exchange -> {
      UUID id = UUID.randomUUID();
      String path = exchange.getRequestURI().getPath();
      if (path.endsWith("/tx") || path.endsWith("/caught")) {
        effect(Idempotency.transaction(exchange), exchange, id);
        if (path.endsWith("/caught")) {
          try {
            effect(Idempotency.transaction(exchange), exchange, id);
          } catch (SQLException duplicate) {
            exchange.getResponseHeaders().set("X-Duplicate", duplicate.getSQLState());
          }
        }
      } else {
        try (Connection connection = db.getConnection()) {
          effect(connection, exchange, id);
        }
      }
      exchange.getResponseHeaders().set("Location", "/v1/effects/" + id);
      HttpResponses.mutation(exchange, 201, Map.of("id", id, "version", 3), 42);
    };
  }

  static void effect(Connection connection, HttpExchange exchange, UUID id) throws SQLException {
    try (PreparedStatement insert =
        connection.prepareStatement("INSERT INTO effects (id, key) VALUES (?, ?)")) {
      insert.setObject(1, id);
      insert.setString(2, exchange.getRequestHeaders().getFirst("Idempotency-Key"));
      insert.executeUpdate();
    }
  }

  static HttpRequest.Builder request(HttpService service, String path) {
    return request(service.port(), path);
  }

  static HttpRequest.Builder request(int port, String path) {
    return HttpRequest.newBuilder(URI.create("http://localhost:" + port + path))
        .timeout(Duration.ofSeconds(60))
        .header("Authorization", "Bearer alice@org")
        .header("Content-Type", "application/json");
  }

  static HttpRequest post(int port, String path, String key, String body) {
    return request(port, path)
        .header("Idempotency-Key", key)
        .POST(HttpRequest.BodyPublishers.ofString(body))
        .build();
  }

  static HttpResponse<String> send(HttpRequest request) throws IOException, InterruptedException {
    return CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
  }

  static HttpResponse<String> post(HttpService service, String path, String key, String body)
      throws IOException, InterruptedException {
    return send(post(service.port(), path, key, body));
  }

  static boolean isReplay(HttpResponse<?> response) {
    return response.headers().allValues("X-Idempotent-Replay").equals(List.of("true"));
  }
}
