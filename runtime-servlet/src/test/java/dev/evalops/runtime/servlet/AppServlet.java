package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.idempotency.Idempotency;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpUpgradeHandler;
import jakarta.servlet.http.Part;
import jakarta.servlet.http.WebConnection;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.Serial;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.Collections;
import java.util.concurrent.ThreadLocalRandom;
import org.slf4j.LoggerFactory;

/** The application of the contract as a servlet, and beside it what only servlets do, below {@code /servlet}. */
final class AppServlet extends HttpServlet {
  @Serial
  private static final long serialVersionUID = 1;

  private final transient Gateway gateway;

  AppServlet(Gateway gateway) {
    this.gateway = gateway;
  }

  @Override
  protected void service(HttpServletRequest request, HttpServletResponse response)
      throws ServletException, IOException {
    String path = ServletExchange.dispatched(request);
    if (request.getDispatcherType() == DispatcherType.INCLUDE) {
      response.getOutputStream().print("included" + parameters(request));
    } else if (path.equals("/v1/notes") || path.startsWith("/v1/notes/")) {
      gateway.note(path, request.getUserPrincipal() != null);
      text(response, "notes of " + request.getRemoteUser());
    } else if (path.startsWith("/v1/items/")) {
      text(response, "item " + path.substring(10));
    } else if (path.startsWith("/servlet/")) {
      servlet(path.substring(8), request, response);
    } else {
      try {
        app(path, request, response);
      } catch (SQLException e) {
        throw new ServletException(e);
      }
    }
  }

  private void app(String path, HttpServletRequest request, HttpServletResponse response)
      throws IOException, SQLException {
    HttpExchange exchange = Servlets.exchange(request);
    switch (path) {
      case "/hello", "/v1/limited" -> {
        if (!request.getMethod().equals("GET") && !request.getMethod().equals("HEAD")) {
          response.setHeader("Allow", "GET, HEAD");
          response.sendError(405);
          return;
        }
        text(response, "hello");
      }
      case "/echo", "/small" -> {
        byte[] body = request.getInputStream().readAllBytes();
        response.setContentType(request.getContentType());
        response.getOutputStream().write(body);
      }
      case "/unread" -> text(response, "unread");
      case "/json" -> {
        App.Note note = HttpRequests.json(exchange, App.Note.class);
        response.setContentType("application/json");
        response.getOutputStream().write(HttpRequests.mapper().writeValueAsBytes(note));
      }
      case "/none" -> response.setStatus(204);
      case "/fail" -> throw new IllegalStateException("secret");
      case "/conflict" -> {
        response.setHeader("X-Tenant", "kept");
        throw Gateway.taken();
      }
      case "/unavailable" -> throw ServiceException.of(ErrorCode.UNAVAILABLE);
      case "/stream", "/zipped" -> {
        response.setContentType("text/plain");
        for (String part : new String[] {"one ", "two ", "three"}) {
          response.getOutputStream().write(part.getBytes(StandardCharsets.UTF_8));
          response.flushBuffer();
        }
      }
      case "/big" -> {
        response.setContentType("text/plain");
        response.setContentLength(App.BIG.length);
        response.getOutputStream().write(App.BIG);
      }
      case "/cut", "/cut-fixed" -> {
        if (path.endsWith("fixed")) {
          response.setContentLength(30_000);
        }
        response.getOutputStream().write(App.BIG);
        response.flushBuffer();
        throw new IllegalStateException("half-way");
      }
      case "/short" -> {
        response.setContentLength(30_000);
        response.getOutputStream().write(App.BIG);
      }
      case "/redirect" -> response.sendRedirect("/hello");
      case "/bad-header" -> {
        response.setHeader("X-Bad", "a\u0001b");
        text(response, "unreachable");
      }
      case "/not-modified" -> {
        response.setHeader("ETag", "\"7\"");
        response.setStatus(304);
      }
      case "/v1/created" -> {
        App.insert(Idempotency.transaction(exchange));
        int count = gateway.created.incrementAndGet();
        if ("fail".equals(request.getQueryString())) {
          throw Gateway.taken();
        }
        response.setStatus(201);
        response.setContentType("application/json");
        response.getWriter().print("\"created " + count + "\"\n");
      }
      default -> response.sendError(404, "no " + path);
    }
  }

  private static void text(HttpServletResponse response, String text) throws IOException {
    response.setContentType("text/plain");
    response.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
  }

  /** The other end of an upgraded connection. Made by the container. */
  public static final class Shout implements HttpUpgradeHandler {
    @Override
    public void init(WebConnection connection) {
      try (connection) {
        connection.getOutputStream().write("HELLO\n".getBytes(StandardCharsets.US_ASCII));
        connection.getOutputStream().flush();
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public void destroy() {}
  }

  /** What no container can make. */
  public static final class Unmade implements HttpUpgradeHandler {
    private Unmade() {}

    @Override
    public void init(WebConnection connection) {}

    @Override
    public void destroy() {}
  }

  private static String parameters(HttpServletRequest request) {
    StringBuilder text = new StringBuilder();
    for (String name : Collections.list(request.getParameterNames())) {
      text.append(' ')
          .append(name)
          .append('=')
          .append(String.join(",", request.getParameterValues(name)));
    }
    return text.toString();
  }

  private interface Late {
    void answer(AsyncContext async) throws IOException;
  }

  private static void late(HttpServletRequest request, Late late) {
    AsyncContext async = request.startAsync();
    Thread.ofVirtual().start(() -> {
      try {
        late.answer(async);
      } catch (IOException | IllegalStateException e) {
        LoggerFactory.getLogger("contract").debug("late", e);
      }
    });
  }

  private AsyncListener listener(HttpServletRequest request, ServletResponse response) {
    String id = request.getHeader("X-Request-Id");
    return new AsyncListener() {
      @Override
      public void onTimeout(AsyncEvent event) throws IOException {
        text((HttpServletResponse) response, "timed out");
        event.getAsyncContext().complete();
      }

      @Override
      public void onError(AsyncEvent event) {}

      @Override
      public void onStartAsync(AsyncEvent event) {}

      @Override
      public void onComplete(AsyncEvent event) {
        gateway.listenersCompleted.add(id);
      }
    };
  }

  private void servlet(String path, HttpServletRequest request, HttpServletResponse response)
      throws ServletException, IOException {
    switch (path) {
      case "/form", "/small-form" -> {
        response.setCharacterEncoding("UTF-8");
        response.setContentType("text/plain");
        response.getWriter().print(parameters(request).trim());
      }
      case "/dispatch-target" -> text(response, parameters(request).trim());
      case "/dispatched-form" -> {
        response.getOutputStream().print("asked" + parameters(request));
        request.getRequestDispatcher("/servlet/included?a=3&x=4").include(request, response);
        response.getOutputStream().print(" again" + parameters(request));
        if (request.getParameter("forward") != null) {
          request
              .getRequestDispatcher("/servlet/dispatch-target?a=5&y=6")
              .forward(request, response);
        }
      }
      case "/reader" ->
        text(response, request.getContentType() + " " + request.getReader().readLine());
      case "/parts" -> {
        StringBuilder text = new StringBuilder();
        for (Part part : request.getParts()) {
          text.append(part.getName()).append('=').append(part.getSize()).append(' ');
        }
        text(response, text.toString().trim());
      }
      case "/writer" -> {
        response.setContentType("text/plain;charset=utf-8");
        PrintWriter writer = response.getWriter();
        writer.print("grüße");
        if ("flush".equals(request.getQueryString())) {
          writer.flush();
        }
      }
      case "/reset" -> {
        response.setHeader("X-Gone", "1");
        response.setStatus(299);
        response.getWriter().print("gone");
        response.reset();
        text(response, "reset");
      }
      case "/reset-twice" -> {
        response.addHeader("Vary", "Gone");
        response.reset();
        response.addHeader("Vary", "Gone");
        response.reset();
        response.addHeader("Vary", "Accept");
        text(response, String.join(", ", response.getHeaders("Vary")));
      }
      case "/reset-buffer" -> {
        response.setHeader("X-Kept", "1");
        response.getOutputStream().print("gone");
        response.resetBuffer();
        response.getOutputStream().print("kept");
      }
      case "/exact" -> {
        response.setContentLength(5);
        response.getOutputStream().print("exact");
      }
      case "/too-short" -> {
        response.setContentLength(50);
        response.getOutputStream().print("short");
      }
      case "/too-long" -> {
        response.setContentLength(2);
        response.getOutputStream().print("long");
      }
      case "/null-header" -> {
        response.addHeader("Vary", "Accept");
        response.addHeader("Vary", null);
        response.addHeader("Content-Type", null);
        response.setHeader("X-Gone", "1");
        response.setHeader("X-Gone", null);
        text(response, "null");
      }
      case "/late-header" -> {
        response.getOutputStream().print("x");
        response.flushBuffer();
        response.setHeader("X-Late", "1");
      }
      case "/both" -> {
        response.getOutputStream().print("x");
        response.getWriter().print("y");
      }
      case "/dates" -> {
        response.setDateHeader("Last-Modified", 86_400_000L * 365);
        response.setIntHeader("X-Int", 7);
        text(response, "dates");
      }
      case "/cookie" -> {
        Cookie cookie = new Cookie("taste", "sweet");
        cookie.setHttpOnly(true);
        response.addCookie(cookie);
        response.addHeader("Set-Cookie", "more=1; SameSite=Strict");
        request.getSession();
        text(response, "cookie");
      }
      case "/include" -> {
        response.getOutputStream().print("before ");
        request.getRequestDispatcher("/servlet/included").include(request, response);
        response.getOutputStream().print(" after");
      }
      case "/forward" -> {
        response.getWriter().print("forgotten");
        request.getRequestDispatcher("/servlet/forwarded?x=1").forward(request, response);
        response.getWriter().print("ignored");
      }
      case "/context-forward" ->
        getServletContext()
            .getRequestDispatcher("/servlet/forwarded?x=1")
            .forward(request, response);
      case "/forwarded" -> {
        response.setHeader("X-Forwarded-Here", "1");
        response.getWriter().print("forwarded " + request.getParameter("x"));
      }
      case "/error" -> {
        response.getOutputStream().print("forgotten");
        response.setHeader("WWW-Authenticate", "Basic");
        response.sendError(Integer.parseInt(request.getQueryString()), "secret");
        response.getOutputStream().print("ignored");
      }
      case "/interrupted" -> {
        text(response, "interrupted");
        Thread.currentThread().interrupt();
      }
      case "/async/interrupted" ->
        late(request, async -> {
          text((HttpServletResponse) async.getResponse(), "interrupted");
          Thread.currentThread().interrupt();
          async.complete();
        });
      case "/async/late" ->
        late(request, async -> {
          text((HttpServletResponse) async.getResponse(), "late");
          async.complete();
        });
      case "/async/at-once" -> {
        AsyncContext async = request.startAsync();
        response.setStatus(201);
        text(response, "at once");
        async.complete();
      }
      case "/async/dispatch", "/async/dispatch-path" -> {
        if (request.getAttribute("result") != null) {
          text(response, "result " + request.getAttribute("result"));
          return;
        }
        late(request, async -> {
          request.setAttribute("result", request.isAsyncStarted());
          if (path.endsWith("path")) {
            async.dispatch("/servlet/async/dispatch");
          } else {
            async.dispatch();
          }
        });
      }
      case "/async/again" -> {
        if (request.getDispatcherType() == DispatcherType.ASYNC) {
          late(request, async -> {
            text((HttpServletResponse) async.getResponse(), "again");
            async.complete();
          });
        } else {
          request.startAsync().dispatch();
        }
      }
      case "/async/throws", "/async/cut", "/async/cut-fixed" -> {
        if (request.getDispatcherType() == DispatcherType.ASYNC) {
          throw Gateway.taken();
        }
        late(request, async -> {
          if (path.contains("cut")) {
            if (path.endsWith("fixed")) {
              async.getResponse().setContentLength(30_000);
            }
            async.getResponse().getOutputStream().write(App.BIG);
            async.getResponse().flushBuffer();
          }
          async.dispatch();
        });
      }
      case "/async/short" ->
        late(request, async -> {
          async.getResponse().setContentLength(30_000);
          async.getResponse().getOutputStream().write(App.BIG);
          async.complete();
        });
      case "/async/throws-at-once" -> {
        request.startAsync();
        throw Gateway.taken();
      }
      case "/async/timeout-writing", "/async/throws-writing" -> {
        late(request, async -> {
          try {
            while (true) {
              async.getResponse().getOutputStream().write(new byte[0]);
            }
          } catch (IOException e) {
            gateway.writersStopped.incrementAndGet();
            async.complete();
          }
        });
        if (path.contains("throws")) {
          throw Gateway.taken();
        }
        request.getAsyncContext().setTimeout(50);
      }
      case "/async/timeout" -> request.startAsync().setTimeout(50);
      case "/async/timeout-answered" -> {
        AsyncContext async = request.startAsync();
        async.setTimeout(50);
        async.addListener(listener(request, async.getResponse()));
      }
      case "/async/twice" ->
        late(request, async -> {
          text((HttpServletResponse) async.getResponse(), "once");
          async.complete();
          async.complete();
        });
      case "/async/events" ->
        late(request, async -> {
          async.addListener(listener(request, async.getResponse()));
          HttpServletResponse events = (HttpServletResponse) async.getResponse();
          events.setContentType("text/event-stream");
          try {
            events.getOutputStream().print("data: first\n\n");
            events.flushBuffer();
            gateway.clientLeft.await();
            while (true) {
              events.getOutputStream().print("data: x\n\n");
              events.flushBuffer();
            }
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
          } finally {
            async.complete();
          }
        });
      case "/async/race" -> {
        if (request.getDispatcherType() == DispatcherType.ASYNC) {
          response.setStatus(201);
          text(response, "raced");
          return;
        }
        boolean dispatches = "dispatch".equals(request.getQueryString());
        int spins = ThreadLocalRandom.current().nextInt(2_000);
        late(request, async -> {
          for (int i = 0; i < spins; i++) {
            Thread.onSpinWait();
          }
          if (dispatches) {
            async.dispatch();
          } else {
            response.setStatus(201);
            text(response, "raced");
            async.complete();
          }
        });
      }
      case "/wrapped" -> late(request, AsyncContext::complete);
      case "/supported", "/wrapped/supported" ->
        text(response, "asynchronous " + request.isAsyncSupported());
      case "/async/non-blocking" -> {
        request.startAsync();
        request.getInputStream().setReadListener(null);
      }
      case "/upgrade" -> {
        response.setHeader("Upgrade", "shout");
        response.setHeader("Connection", "Upgrade");
        request.upgrade(Shout.class);
      }
      case "/upgrade-fails" -> request.upgrade(Unmade.class);
      case "/long" -> response.getOutputStream().write(App.BIG);
      case "/nothing" -> {}
      case "/version" ->
        text(
            response,
            getServletContext().getMajorVersion() + "." + getServletContext().getMinorVersion());
      case "/attributes" -> {
        request.setAttribute("own", "value");
        HttpExchange exchange = Servlets.exchange(request);
        text(
            response,
            exchange.getAttribute("own") + " " + exchange.getLocalAddress().getPort());
      }
      default -> response.sendError(404);
    }
  }
}
