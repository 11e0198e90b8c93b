package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.idempotency.Idempotency;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Arrays;

/** The application of the contract, as a handler of ours; {@link AppServlet} and {@link BootApp} are the others. */
final class App {
  static final byte[] BIG = big();

  record Note(String text) {
    Note {
      if (text.equals("refused")) {
        throw ServiceException.of(ErrorCode.CONFLICT, "refused by the record");
      }
    }
  }

  private App() {}

  private static byte[] big() {
    byte[] big = new byte[20_000];
    Arrays.fill(big, (byte) 'b');
    return big;
  }

  static HttpHandler handler(Gateway gateway) {
    return (HttpService.Handler) exchange -> handle(gateway, exchange);
  }

  private static void handle(Gateway gateway, HttpExchange exchange)
      throws IOException, SQLException {
    String path = RequestContext.of(exchange).path();
    if (path.equals("/v1/notes") || path.startsWith("/v1/notes/")) {
      gateway.note(path, Actor.find(exchange).isPresent());
      text(exchange, "notes of " + exchange.getPrincipal().getUsername());
      return;
    }
    if (path.startsWith("/v1/items/")) {
      text(exchange, "item " + HttpRequests.pathValue(exchange, "id"));
      return;
    }
    switch (path.startsWith("/direct/") ? path.substring(7) : path) {
      case "/hello", "/v1/limited" -> {
        HttpRequests.requireMethod(exchange, "GET");
        text(exchange, "hello");
      }
      case "/echo", "/small" -> {
        byte[] body = exchange.getRequestBody().readAllBytes();
        HttpResponses.bytes(
            exchange, 200, exchange.getRequestHeaders().getFirst("Content-Type"), body);
      }
      case "/unread" -> text(exchange, "unread");
      case "/json" -> HttpResponses.json(exchange, 200, HttpRequests.json(exchange, Note.class));
      case "/none" -> HttpResponses.noContent(exchange);
      case "/fail" -> throw new IllegalStateException("secret");
      case "/conflict" -> {
        exchange.getResponseHeaders().set("X-Tenant", "kept");
        throw Gateway.taken();
      }
      case "/unavailable" -> throw ServiceException.of(ErrorCode.UNAVAILABLE);
      case "/stream", "/zipped" -> {
        exchange.getResponseHeaders().set("Content-Type", "text/plain");
        exchange.sendResponseHeaders(200, 0);
        try (OutputStream out = exchange.getResponseBody()) {
          for (String part : new String[] {"one ", "two ", "three"}) {
            out.write(part.getBytes(StandardCharsets.UTF_8));
            out.flush();
          }
        }
      }
      case "/big" -> HttpResponses.bytes(exchange, 200, "text/plain", BIG);
      case "/cut", "/cut-fixed" -> {
        exchange.sendResponseHeaders(200, path.endsWith("fixed") ? 30_000 : 0);
        exchange.getResponseBody().write(BIG);
        exchange.getResponseBody().flush();
        throw new IllegalStateException("half-way");
      }
      case "/short" -> {
        exchange.sendResponseHeaders(200, 30_000);
        exchange.getResponseBody().write(BIG);
      }
      case "/malformed" -> {
        try {
          exchange.getRequestBody().readAllBytes();
        } catch (ServiceException e) {
          exchange.sendResponseHeaders(204, -1);
        }
      }
      case "/later" -> later(gateway, exchange, () -> text(exchange, "later"));
      case "/later-fail" ->
        later(gateway, exchange, () -> {
          throw Gateway.taken();
        });
      case "/later-cut" ->
        later(gateway, exchange, () -> {
          exchange.sendResponseHeaders(200, 0);
          exchange.getResponseBody().write(BIG);
          throw new IllegalStateException("half-way");
        });
      case "/redirect" -> {
        exchange.getResponseHeaders().set("Location", "/hello");
        exchange.sendResponseHeaders(302, -1);
      }
      case "/bad-header" -> {
        exchange.getResponseHeaders().set("X-Bad", "a\u0001b");
        text(exchange, "unreachable");
      }
      case "/not-modified" -> {
        exchange.getResponseHeaders().set("ETag", "\"7\"");
        exchange.sendResponseHeaders(304, -1);
      }
      case "/v1/created" -> {
        insert(Idempotency.transaction(exchange));
        int count = gateway.created.incrementAndGet();
        if ("fail".equals(exchange.getRequestURI().getRawQuery())) {
          throw Gateway.taken();
        }
        HttpResponses.json(exchange, 201, "created " + count);
      }
      default -> throw ServiceException.of(ErrorCode.NOT_FOUND);
    }
  }

  private interface Answer {
    void send() throws IOException;
  }

  /** Answers on another thread: when the test says so or, with a query, before the handler returns. */
  private static void later(Gateway gateway, HttpExchange exchange, Answer answer) {
    RequestContext.Suspension suspension = RequestContext.suspend(exchange);
    Thread answering = Thread.ofVirtual().start(() -> {
      try {
        if (exchange.getRequestURI().getRawQuery() == null) {
          gateway.mayAnswer.acquireUninterruptibly();
        }
        answer.send();
        suspension.resume(null);
      } catch (IOException | RuntimeException e) {
        suspension.resume(e);
      }
    });
    if (exchange.getRequestURI().getRawQuery() != null) {
      try {
        answering.join();
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    }
  }

  static void insert(Connection connection) throws SQLException {
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO effects VALUES (1)")) {
      insert.executeUpdate();
    }
  }

  private static void text(HttpExchange exchange, String text) throws IOException {
    HttpResponses.bytes(exchange, 200, "text/plain", text.getBytes(StandardCharsets.UTF_8));
  }
}
