package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.FilterConfig;
import jakarta.servlet.FilterRegistration;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.EnumSet;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Puts routes, filters and handlers in front of the servlets of an application. For Servlet 6.0 and later; in Spring
 * Boot:
 *
 * <pre>{@code
 * @Bean
 * ServletContextInitializer runtime() {
 *   HttpHandler handler = HttpService.builder()
 *       .filters(HttpFilters.requestId(), HttpFilters.requestLog(log), HttpFilters.browserGuards())
 *       .handle("/v1/notes", Servlets.next(), auth.require("notes:write"))
 *       .handle("/", Servlets.next())
 *       .handler();
 *   return context -> Servlets.addTo(context, handler);
 * }
 * }</pre>
 *
 * <p>Thread-safe.
 */
public final class Servlets {
  private static final String NAME = "service-runtime";

  private Servlets() {}

  /**
   * Puts a handler in front of the servlet filters and servlets of an application: it sees every request, and every
   * response of the application. A container runs filters only for paths that a servlet is mapped to; without a servlet
   * for {@code /} the container answers 404 itself.
   *
   * <p>Call it while the application starts, before other filters are registered: the handler is mapped to all paths,
   * for the dispatcher types REQUEST, ASYNC, ERROR and INCLUDE, before filters that are registered later. In Jetty, set
   * up WebSockets first. Jetty puts its filter for them before those that are registered, and no filter would guard
   * them; the application does not start then.
   *
   * @param context the application
   * @param handler a handler from {@link HttpService.Builder#handler()}, which answers and logs its failures (those of
   *     another handler are neither answered nor logged); it passes requests for the application to {@link #next()}
   * @throws IllegalStateException if the application already has a handler, or has started
   */
  public static void addTo(ServletContext context, HttpHandler handler) {
    FilterRegistration.Dynamic registration =
        context.addFilter(NAME, new BridgeFilter(Objects.requireNonNull(handler, "handler")));
    if (registration == null) {
      throw new IllegalStateException("the application has a handler already");
    }
    registration.setAsyncSupported(true);
    registration.addMappingForUrlPatterns(
        EnumSet.of(
            DispatcherType.REQUEST,
            DispatcherType.ASYNC,
            DispatcherType.ERROR,
            DispatcherType.INCLUDE),
        false,
        "/*");
  }

  /**
   * Returns a handler that passes requests to the filters and the servlet of the application. The application reads and
   * writes through the exchange, so what our filters do with the exchange applies to it too. If the container reads the
   * path of a request differently from {@link RequestContext#path()}, because of path parameters for example, the
   * request is refused with 400 {@code invalid_input}: the routes may have checked it for another path.
   *
   * <p>{@code sendError} and exceptions of servlets are answered in the one JSON error shape. Asynchronous servlets
   * work, except behind a filter that wraps the exchange, such as that of {@code runtime-idempotency}. Non-blocking I/O
   * ({@code ReadListener}, {@code WriteListener}) is not supported.
   *
   * @return a handler for {@link HttpService.Builder#handle}; it throws {@link IllegalStateException} for requests that
   *     do not come through {@link #addTo}
   */
  public static HttpHandler next() {
    return (HttpService.Handler) exchange -> {
      Bridge bridge = (Bridge) exchange.getAttribute(Bridge.ATTRIBUTE);
      if (bridge == null) {
        throw new IllegalStateException(
            "Servlets.next() is for requests that come through Servlets.addTo");
      }
      bridge.next(exchange);
    };
  }

  /**
   * Returns the exchange of a request, for a servlet or controller that needs what the filters have stored: the caller,
   * or the transaction of an idempotency key.
   *
   * @param request the request of the servlet
   * @return the exchange; the servlet writes the response, not the exchange
   * @throws IllegalStateException if the request has not come through {@link #next()}
   */
  public static HttpExchange exchange(ServletRequest request) {
    Bridge bridge = Bridge.find(request);
    HttpExchange exchange = bridge == null ? null : bridge.exchange();
    if (exchange == null) {
      throw new IllegalStateException("the request has not come through Servlets.next()");
    }
    return exchange;
  }

  /** Jetty's filter for WebSockets puts itself before ours when it comes later, and would open them to everybody. */
  private static void checkOrder(ServletContext context) {
    if (context.getFilterRegistrations().keySet().stream().noneMatch(Servlets::isOfWebSockets)) {
      return;
    }
    try {
      Object servlets = get(get(context, "getContextHandler"), "getServletHandler");
      for (Object mapping : (Object[]) get(servlets, "getFilterMappings")) {
        String name = (String) get(mapping, "getFilterName");
        if (name.equals(NAME)) {
          return;
        }
        if (isOfWebSockets(name)) {
          throw new IllegalStateException("Jetty's filter for WebSockets comes before that of"
              + " Servlets.addTo: set up WebSockets before you call it");
        }
      }
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("the order of the filters is not known", e);
    }
  }

  private static boolean isOfWebSockets(String filter) {
    return filter.startsWith("org.eclipse.jetty.") && filter.endsWith(".WebSocketUpgradeFilter");
  }

  private static Object get(Object of, String getter) throws ReflectiveOperationException {
    return of.getClass().getMethod(getter).invoke(of);
  }

  private record BridgeFilter(HttpHandler handler) implements Filter {
    @Override
    public void init(FilterConfig config) {
      checkOrder(config.getServletContext());
    }

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
        throws IOException, ServletException {
      DispatcherType type = request.getDispatcherType();
      boolean nested = type == DispatcherType.ERROR || type == DispatcherType.INCLUDE;
      @Nullable Bridge bridge = Bridge.find(request);
      if (bridge == null && !nested) {
        new Bridge((HttpServletRequest) request, (HttpServletResponse) response, chain)
            .serve(handler);
      } else if (bridge != null && type == DispatcherType.ASYNC) {
        bridge.dispatched(request, response, chain);
      } else if (bridge == null || !bridge.cut()) {
        // Without a bridge: the page for a request that the container has refused by itself.
        chain.doFilter(request, response);
      }
    }
  }
}
