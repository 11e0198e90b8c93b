package dev.evalops.runtime.http;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;

/**
 * Handlers for probes and metrics. They answer even when {@link HttpService.Builder#maxInFlight} is reached.
 *
 * <p>Thread-safe.
 */
public final class HttpEndpoints {
  /** Marks handlers that {@link HttpService.Builder#maxInFlight} does not count. */
  interface Exempt extends HttpHandler {}

  private HttpEndpoints() {}

  /**
   * Returns a handler that is exempt from {@link HttpService.Builder#maxInFlight}, as those of this class are: for
   * probes, which must not take a busy service for a broken one.
   *
   * @param handler a handler that bounds what it does under load itself
   * @return the handler to register
   */
  public static HttpHandler exempt(HttpHandler handler) {
    Objects.requireNonNull(handler, "handler");
    return (Exempt) handler::handle;
  }

  /**
   * Returns a handler that answers that the process is alive.
   *
   * @param service name of the service
   * @return a handler for GET: <code>{"service":"…","status":"ok"}</code>
   */
  public static HttpHandler health(String service) {
    Map<String, String> body = new TreeMap<>(
        Map.of("service", Objects.requireNonNull(service, "service"), "status", "ok"));
    return (Exempt) exchange -> {
      HttpRequests.requireMethod(exchange, "GET");
      HttpResponses.json(exchange, 200, body);
    };
  }

  /**
   * Returns a handler that answers 503 with the pending dependencies, for the start-up probe of a service that is not
   * up yet. When it is up, replace the routes with {@link HttpService#serve}, and answer the probe with {@link
   * #health}.
   *
   * @param pending returns what is waited for, for example {@code life::pending} of a {@code Lifecycle}; the texts are
   *     shown
   * @return a handler for GET: 503 with <code>{"pending":["postgres: for 3 s"],"status":"starting"}</code>
   */
  public static HttpHandler starting(Supplier<? extends Collection<?>> pending) {
    Objects.requireNonNull(pending, "pending");
    return (Exempt) exchange -> {
      HttpRequests.requireMethod(exchange, "GET");
      List<String> waiting = pending.get().stream().map(Object::toString).toList();
      exchange.getResponseHeaders().set("Cache-Control", "no-store");
      HttpResponses.json(
          exchange, 503, new TreeMap<>(Map.of("status", "starting", "pending", waiting)));
    };
  }

  /**
   * Returns a handler that answers 503 {@code unavailable} with {@code Retry-After}, for what a service cannot serve
   * yet. It logs nothing: a start is no failure.
   *
   * @return a handler for every method
   */
  public static HttpHandler unavailable() {
    return (Exempt) exchange -> ErrorResponse.of(ErrorCode.UNAVAILABLE).send(exchange);
  }

  /**
   * Returns a handler that answers with metrics.
   *
   * @param scrape gives the metrics in the format of a content type, for example {@code registry::scrape} of a
   *     {@code PrometheusMeterRegistry}
   * @return a handler for GET: OpenMetrics 1.0 if {@code Accept} prefers it, else the Prometheus text format
   */
  public static HttpHandler metrics(UnaryOperator<String> scrape) {
    Objects.requireNonNull(scrape, "scrape");
    return (Exempt) exchange -> {
      HttpRequests.requireMethod(exchange, "GET");
      List<String> accept = exchange.getRequestHeaders().get("Accept");
      String type = metricsType(accept == null ? "" : String.join(",", accept));
      HttpResponses.bytes(exchange, 200, type, scrape.apply(type).getBytes(StandardCharsets.UTF_8));
    };
  }

  /** The better of the two formats for an Accept header. */
  static String metricsType(String accept) {
    double openMetrics = 0;
    double text = 0;
    for (String range : accept.split(",", -1)) {
      String[] parts = range.split(";", -1);
      double quality = 1;
      for (int i = 1; i < parts.length; i++) {
        if (parts[i].trim().startsWith("q=")) {
          quality = quality(parts[i].trim().substring(2));
        }
      }
      switch (parts[0].trim().toLowerCase(Locale.ROOT)) {
        case "application/openmetrics-text" -> openMetrics = Math.max(openMetrics, quality);
        case "text/plain", "text/*" -> text = Math.max(text, quality);
        default -> {}
      }
    }
    return openMetrics > 0 && openMetrics >= text
        ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
        : "text/plain; version=0.0.4; charset=utf-8";
  }

  private static double quality(String text) {
    try {
      return Double.parseDouble(text);
    } catch (NumberFormatException e) {
      return 0;
    }
  }
}
