package dev.evalops.runtime.idempotency;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpErrors;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.RequestContext;
import java.io.IOException;
import java.util.List;
import java.util.Set;

/** Between the transport and {@link Idempotency#begin}. */
final class IdempotencyFilter extends Filter implements HttpFilters.After {
  private static final Set<String> SAFE_METHODS = Set.of("GET", "HEAD", "OPTIONS", "TRACE");

  private final Idempotency idempotency;
  private final Idempotency.Scope scope;
  private final int maxBody;
  private final int maxResponse;

  IdempotencyFilter(
      Idempotency idempotency, Idempotency.Scope scope, int maxBody, int maxResponse) {
    this.idempotency = idempotency;
    this.scope = scope;
    this.maxBody = maxBody;
    this.maxResponse = maxResponse;
  }

  @Override
  public String description() {
    return "idempotency";
  }

  @Override
  public String after() {
    return "auth";
  }

  @Override
  public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
    RequestContext context = RequestContext.of(exchange);
    String method = exchange.getRequestMethod();
    boolean refused = context.refusal().isPresent(); // whatever happens here, that is the answer
    if (refused || SAFE_METHODS.contains(method) || context.get(Execution.KEY).isPresent()) {
      chain.doFilter(exchange);
      return;
    }
    String key = key(exchange.getRequestHeaders());
    Actor actor = Actor.find(exchange)
        .orElseThrow(() -> ServiceException.of(Idempotency.SCOPE_FAILED).op("idempotency.scope"));
    byte[] body = body(exchange);
    String path = context.path();
    String query = exchange.getRequestURI().getRawQuery();
    String former = Idempotency.requestHash(method, path, query, body);
    // Rows that are shared with the services in Go keep the form that these read.
    String hash = query == null || query.isEmpty() || scope == Idempotency.Scope.ORGANIZATION
        ? former
        : Idempotency.boundedHash(method, path, query, body);
    switch (idempotency.begin(scope.of(actor, method, path), key, hash, former)) {
      case IdempotencyStore.Started started -> run(exchange, chain, body, started.claim());
      case IdempotencyStore.Replay replay -> replay(exchange, replay.response());
      case IdempotencyStore.Conflict conflict ->
        throw ServiceException.of(Idempotency.CONFLICT).op("idempotency.begin");
      case IdempotencyStore.InProgress inProgress ->
        throw ServiceException.of(Idempotency.IN_PROGRESS).op("idempotency.begin");
    }
  }

  private static String key(Headers headers) {
    List<String> values = headers.get("Idempotency-Key");
    if (values != null && values.size() > 1) {
      throw ServiceException.of(Idempotency.INVALID_KEY, "Idempotency-Key must be sent once")
          .op("idempotency.key");
    }
    return Idempotency.checkedKey(values == null ? null : values.getFirst());
  }

  private byte[] body(HttpExchange exchange) throws IOException {
    String declared = exchange.getRequestHeaders().getFirst("Content-Length");
    long length = declared == null ? -1 : Long.parseLong(declared);
    byte[] body =
        length > maxBody ? new byte[0] : exchange.getRequestBody().readNBytes(maxBody + 1);
    if (Math.max(length, body.length) > maxBody) {
      throw ServiceException.of(HttpErrors.BODY_TOO_LARGE).op("http.body");
    }
    return body;
  }

  private void run(HttpExchange exchange, Chain chain, byte[] body, IdempotencyStore.Claim claim)
      throws IOException {
    Execution execution = new Execution(idempotency, claim);
    HeldExchange held = new HeldExchange(exchange, body, maxResponse, execution);
    try {
      execution.begin();
      RequestContext.of(exchange).put(Execution.KEY, execution);
      chain.doFilter(held.forChain());
      if (held.getResponseCode() < 0) {
        execution.abandon(); // the guard answers
        return;
      }
      held.checkComplete();
      execution.finish(held.response());
    } catch (Throwable t) {
      execution.abandon(t, RequestContext.of(exchange).route());
      throw t;
    }
    held.send();
  }

  private static void replay(HttpExchange exchange, StoredResponse response) throws IOException {
    Headers headers = exchange.getResponseHeaders();
    response.headers().forEach(headers::set);
    if (!response.contentType().isEmpty()) {
      headers.set("Content-Type", response.contentType());
    }
    headers.set("X-Idempotent-Replay", "true");
    byte[] body = response.body();
    // Another service may have kept what its handler wrote and its server did not send.
    boolean empty = body.length == 0
        || switch (response.status()) {
          case 204, 205, 304 -> true;
          default -> false;
        };
    exchange.sendResponseHeaders(response.status(), empty ? -1 : body.length);
    if (!empty) {
      exchange.getResponseBody().write(body);
      exchange.getResponseBody().close();
    }
  }
}
