package dev.evalops.runtime.observability.opentelemetry;

import static java.util.Objects.requireNonNull;

import io.opentelemetry.api.OpenTelemetry;
import java.net.http.HttpClient;

/**
 * An HTTP client that makes a client span for every call and sends its context along (W3C {@code traceparent}, or
 * whatever the given OpenTelemetry propagates). Spans follow the OpenTelemetry semantic conventions for HTTP; user-info
 * and query of a URL and the texts of exceptions are left out of them, as they can hold secrets. Everything else is
 * left to the client inside. Thread-safe.
 *
 * <pre>{@code
 * HttpClient http = TracedHttpClient.of(tls.httpClient(), openTelemetry);
 * }</pre>
 */
public final class TracedHttpClient {
  private TracedHttpClient() {}

  /**
   * Returns a client that traces the calls of another one.
   *
   * @param client makes the calls; closed with the returned one
   * @param openTelemetry makes the spans and the headers
   * @return the client to use
   */
  public static HttpClient of(HttpClient client, OpenTelemetry openTelemetry) {
    return new TracingHttpClient(
        requireNonNull(client, "client"), requireNonNull(openTelemetry, "openTelemetry"));
  }
}
