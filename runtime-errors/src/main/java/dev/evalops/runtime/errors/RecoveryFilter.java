package dev.evalops.runtime.errors;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.System.Logger.Level;
import java.util.Objects;
import java.util.function.BiConsumer;

/**
 * Answers whatever a handler or an inner filter throws; put it first. The client gets the {@link ErrorResponse} of the
 * failure. If the response has begun, the connection is cut instead, so that the client cannot take half a body for a whole
 * one. Failures without a code, those with a status from 500 up, and those that cut a response are reported.
 *
 * <pre>{@code
 * server.createContext("/notes", handler).getFilters().add(0, new RecoveryFilter());
 * }</pre>
 *
 * <p>Thread-safe.
 */
public final class RecoveryFilter extends Filter {
  private static final System.Logger LOG = System.getLogger(RecoveryFilter.class.getName());

  private final BiConsumer<? super Throwable, ? super HttpExchange> reporter;

  /** Reports to the {@link System.Logger} of this class: {@code http panic recovered}, method, path and stack. */
  public RecoveryFilter() {
    this(RecoveryFilter::log);
  }

  /**
   * Reports in another way.
   *
   * @param reporter is given the failure and the exchange before it is answered; if it throws, that is logged and the
   *     client is answered all the same
   */
  public RecoveryFilter(BiConsumer<? super Throwable, ? super HttpExchange> reporter) {
    this.reporter = Objects.requireNonNull(reporter, "reporter");
  }

  @Override
  public String description() {
    return "answers failures";
  }

  @Override
  public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
    OutputStream body = exchange.getResponseBody();
    try {
      chain.doFilter(exchange);
    } catch (Throwable failure) {
      ErrorResponse response = ErrorResponse.of(failure);
      boolean begun = exchange.getResponseCode() > 0;
      if (begun || response.status() >= 500) {
        report(failure, exchange);
      }
      if (begun) {
        // For an exception the server cuts the connection, unless somebody closes the exchange
        // first; for an Error it does not.
        throw failure instanceof IOException e ? e : new IOException("response cut short", failure);
      }
      // Without what inner filters have put around it, such as compression.
      exchange.setStreams(null, body);
      response.send(exchange);
    }
  }

  private void report(Throwable failure, HttpExchange exchange) {
    try {
      reporter.accept(failure, exchange);
    } catch (Throwable e) {
      Exception both = new IllegalStateException("the reporter failed, too", e);
      both.addSuppressed(failure);
      LOG.log(Level.ERROR, "http panic recovered", both);
    }
  }

  private static void log(Throwable failure, HttpExchange exchange) {
    // Without the query, which may hold secrets.
    String request = "method=" + exchange.getRequestMethod() + " path="
        + exchange.getRequestURI().getRawPath();
    LOG.log(Level.ERROR, "http panic recovered " + request.replaceAll("\\p{Cntrl}", "?"), failure);
  }
}
