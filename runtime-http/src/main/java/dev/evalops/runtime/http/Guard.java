package dev.evalops.runtime.http;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.util.List;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** Answers every request, whatever its filters and handler do, and ends every response. */
final class Guard implements HttpHandler {
  private static final Logger LOG = LoggerFactory.getLogger(Guard.class);

  private final List<Filter> filters;
  private final HttpHandler target;

  Guard(List<Filter> filters, HttpHandler target) {
    this.filters = filters;
    this.target = target instanceof Guard ? target : withBodyCheck(target);
  }

  private static HttpHandler withBodyCheck(HttpHandler handler) {
    return exchange -> {
      RequestContext.of(exchange).checkBody();
      handler.handle(exchange);
    };
  }

  @Override
  public void handle(HttpExchange exchange) throws IOException {
    if (RequestContext.find(exchange) != null) {
      new Filter.Chain(filters, target).doFilter(exchange);
      return;
    }
    GuardedExchange guarded = new GuardedExchange(
        exchange, Limits.NO_SERVICE, exchange.getHttpContext().getPath());
    run(guarded, filters, () -> {
      check(guarded);
      return x -> new Filter.Chain(filters, target).doFilter(x);
    });
  }

  /** Refuses malformed requests, before any filter decides. */
  static void check(GuardedExchange exchange) {
    RequestRules.checkRequest(
        exchange.getRequestMethod(), exchange.getProtocol(), exchange.head(), exchange.hosted());
    RequestRules.checkTarget(exchange.getRequestURI());
    exchange.context().path(RequestRules.path(exchange.context().path()));
  }

  /**
   * Handles a request.
   *
   * @param filters see a request that is refused, too; none of them can answer it in another way
   * @param admission gives the handler, or throws why the request is refused
   */
  static void run(GuardedExchange guarded, List<Filter> filters, Supplier<HttpHandler> admission)
      throws IOException {
    Throwable failure = null;
    try {
      handler(guarded, filters, admission).handle(guarded.forHandler());
    } catch (Throwable t) {
      failure = t;
    }
    RequestContext.Suspension suspension = guarded.suspension();
    if (suspension == null) {
      finish(guarded, failure);
    } else {
      suspension.returned(failure);
    }
  }

  /** Ends a request whose handler has done what it had to do. */
  static void finish(GuardedExchange guarded, @Nullable Throwable thrown) throws IOException {
    // A handler may have left the flag set; see GuardedExchange.BodyOutput.send.
    boolean interrupted = Thread.interrupted();
    try {
      finishUninterrupted(guarded, thrown);
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private static void finishUninterrupted(GuardedExchange guarded, @Nullable Throwable thrown)
      throws IOException {
    Throwable failure = thrown;
    if (failure == null) {
      try {
        if (!guarded.committed() && !guarded.adopt()) {
          throw new IllegalStateException("the handler sent no response");
        }
        guarded.settle();
      } catch (Throwable t) {
        failure = t;
      }
    }
    boolean whole = false;
    try {
      if (failure != null) {
        failure = guarded.context().refusal().<Throwable>map(r -> r).orElse(failure);
        guarded.context().failure(failure);
        boolean begun = guarded.begun() || guarded.isClientGone(failure);
        report(guarded, failure, begun);
        if (begun) {
          // For an IOException the server cuts the connection unless the exchange was closed; an
          // Error leaves it open.
          throw new IOException("response cut short", failure);
        }
        answer(guarded, failure);
      }
      whole = true;
    } finally {
      guarded.leave();
      if (!whole) {
        guarded.cut();
      }
      complete(guarded);
    }
    try {
      guarded.end();
    } catch (Throwable t) {
      report(guarded, t, true);
      throw new IOException("response cut short", t);
    }
  }

  private static HttpHandler handler(
      GuardedExchange guarded, List<Filter> filters, Supplier<HttpHandler> admission) {
    try {
      return admission.get();
    } catch (ServiceException refusal) {
      guarded.refuse(refusal);
      return exchange -> new Filter.Chain(filters, x -> {
            throw refusal;
          })
          .doFilter(exchange);
    }
  }

  private static void answer(GuardedExchange guarded, Throwable failure) throws IOException {
    try {
      guarded.prepareError();
      responseTo(guarded, failure).send(guarded);
      guarded.settle();
    } catch (Throwable t) {
      report(guarded, t, guarded.begun());
      if (guarded.begun()) {
        throw new IOException("response cut short", t);
      }
      // A beforeResponse action has failed; each of them runs once.
      try {
        guarded.prepareError();
        ErrorResponse.of(ErrorCode.INTERNAL_ERROR).send(guarded);
        guarded.settle();
      } catch (Throwable again) {
        throw new IOException("no response could be sent", again);
      }
    }
  }

  private static ErrorResponse responseTo(GuardedExchange guarded, Throwable failure) {
    ErrorResponse response = ErrorResponse.of(failure);
    if (response.equals(ErrorResponse.of(ErrorCode.VERSION_CONFLICT))
        && guarded.getRequestHeaders().containsKey("If-Match")) {
      return new ErrorResponse(response.code(), "resource version does not match If-Match");
    }
    return response;
  }

  private static void report(GuardedExchange guarded, Throwable failure, boolean begun) {
    try {
      ErrorCode code = ErrorCode.codeOf(failure).orElse(null);
      if (guarded.isClientGone(failure)) {
        if (guarded.closedHere() && !guarded.draining()) {
          log(Level.WARN, "http response cut, time limit of the server reached", guarded, failure);
        } else {
          log(Level.DEBUG, "http client went away", guarded, failure);
        }
      } else if (code == null && FailureKind.of(failure) == FailureKind.INTERNAL) {
        log(Level.ERROR, "http panic recovered", guarded, failure);
      } else if (begun
          || code == null
          || (code.httpStatus() >= 500 && !code.equals(HttpErrors.OVERLOADED))) {
        log(Level.ERROR, "http request failed", guarded, failure);
      }
    } catch (Throwable ignored) {
      // A log that cannot be written must not cost the client its answer.
    }
  }

  private static void log(Level level, String message, GuardedExchange guarded, Throwable failure) {
    LOG.atLevel(level)
        .addKeyValue("request_id", guarded.context().requestId())
        .addKeyValue("method", RequestRules.escaped(guarded.getRequestMethod()))
        .addKeyValue("path", RequestRules.escapedPath(guarded.getRequestURI()))
        .setCause(failure)
        .log(message);
  }

  private static void complete(GuardedExchange guarded) {
    Runnable action;
    while ((action = guarded.context().nextOnComplete()) != null) {
      try {
        action.run();
      } catch (Throwable t) {
        LOG.atError().setCause(t).log("an onComplete action failed");
      }
    }
  }
}
