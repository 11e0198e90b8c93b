package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.RequestDispatcher;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletOutputStream;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.WriteListener;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpServletResponseWrapper;
import java.io.IOException;
import java.io.Serial;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.stream.Stream;
import org.apache.catalina.Context;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** A client that resets its connection while an asynchronous request is being answered. */
class ClientGoneTest {
  @TempDir
  static Path folder;

  private static final BlockingQueue<List<String>> BEGUN = new LinkedBlockingQueue<>();
  private static final Semaphore GONE = new Semaphore(0);
  private static final Queue<Throwable> FAILURES = new ConcurrentLinkedQueue<>();

  private record Listener(List<String> told, boolean dispatches) implements AsyncListener {
    @Override
    public void onComplete(AsyncEvent event) {
      told.add("complete");
    }

    @Override
    public void onTimeout(AsyncEvent event) {
      told.add("timeout");
    }

    @Override
    public void onError(AsyncEvent event) {
      told.add("error");
      if (dispatches) { // as Spring does
        event.getAsyncContext().dispatch("/after");
      }
    }

    @Override
    public void onStartAsync(AsyncEvent event) {}
  }

  static final class Late extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) {
      if (request.getServletPath().equals("/after")) {
        return;
      }
      if (request.getServletPath().equals("/failed")) {
        AsyncContext async = request.startAsync();
        Thread ofContainer = Thread.currentThread();
        Thread.ofVirtual().start(() -> {
          // Before it has left, Tomcat itself takes the attribute for a failure of the request.
          await()
              .until(() -> Arrays.stream(ofContainer.getStackTrace())
                  .noneMatch(frame -> frame.getClassName().contains("CoyoteAdapter")));
          request.setAttribute(RequestDispatcher.ERROR_EXCEPTION, new IOException("upstream"));
          response.setStatus(502);
          async.complete();
        });
        return;
      }
      List<String> told = Collections.synchronizedList(new ArrayList<>());
      AsyncContext async = request.startAsync();
      async.setTimeout(0);
      boolean completes = request.getServletPath().equals("/completes");
      async.addListener(new Listener(told, !completes));
      Thread.ofVirtual().start(() -> {
        try {
          BEGUN.add(told);
          GONE.acquireUninterruptibly();
          do {
            response.getOutputStream().print("x".repeat(100));
            if (!completes) {
              response.flushBuffer();
            }
          } while (!completes);
          async.complete();
        } catch (IOException gone) {
          // The listener is told.
        } catch (Throwable failure) {
          FAILURES.add(failure);
        }
      });
    }
  }

  private static void addServlet(ServletContext context) {
    ServletRegistration.Dynamic late = context.addServlet("late", new Late());
    late.setAsyncSupported(true);
    late.addMapping("/completes", "/writes", "/after", "/failed");
  }

  /** As Spring Security has it: an asynchronous context of its own. */
  private static final class Wraps extends HttpFilter {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doFilter(
        HttpServletRequest request, HttpServletResponse response, FilterChain chain)
        throws IOException, ServletException {
      chain.doFilter(
          new HttpServletRequestWrapper(request) {
            @Override
            public AsyncContext startAsync(ServletRequest asked, ServletResponse answer) {
              AsyncContext async = super.startAsync(asked, answer);
              return (AsyncContext) Proxy.newProxyInstance(
                  ClientGoneTest.class.getClassLoader(),
                  new Class<?>[] {AsyncContext.class},
                  (proxy, method, arguments) -> {
                    try {
                      return method.invoke(async, arguments);
                    } catch (InvocationTargetException e) {
                      throw e.getCause();
                    }
                  });
            }
          },
          response);
    }
  }

  /** What Tomcat logs as an error of a servlet. */
  private static final class ErrorsOfTomcat extends Handler implements AutoCloseable {
    private final Logger logger = Logger.getLogger("org.apache.catalina.core");
    private final Queue<String> messages = new ConcurrentLinkedQueue<>();

    ErrorsOfTomcat() {
      logger.addHandler(this);
    }

    @Override
    public void publish(LogRecord entry) {
      if (entry.getLevel().intValue() >= Level.SEVERE.intValue()) {
        messages.add(entry.getMessage());
      }
    }

    @Override
    public void flush() {}

    @Override
    public void close() {
      logger.removeHandler(this);
    }
  }

  static Stream<Arguments> ends() {
    return Stream.of("tomcat", "tomcat behind a filter", "jetty")
        .flatMap(container ->
            Stream.of("/completes", "/writes").map(path -> Arguments.of(container, path)));
  }

  @BeforeEach
  void forget() {
    BEGUN.clear();
    FAILURES.clear();
  }

  @ParameterizedTest
  @MethodSource("ends")
  void isToldOnce_andInOrder(String container, String path) throws Exception {
    isTold(100, container, path);
  }

  @ParameterizedTest
  @Tag("soak")
  @MethodSource("ends")
  void isToldOnce_andInOrder_soak(String container, String path) throws Exception {
    isTold(20_000, container, path);
    System.out.println(container + " " + path + ": 20 000 clients gone, each told of once");
  }

  @Test
  void isNotBlamedForAFailureOfTheApplication() throws Exception {
    try (Watched watched = new Watched()) {
      HttpHandler handler = watched.routes().handle("/", Servlets.next()).handler();
      watched.tomcat(folder, handler, context -> {}, ClientGoneTest::addServlet);
      try (RawClient client = new RawClient(watched.port())) {
        assertThat(client.get("/failed").status()).isEqualTo(502);
        assertThat(client.get("/failed").status()).isEqualTo(502);
      }
      assertThat(watched.logged(2)).containsOnly("GET / 502");
      assertThat(watched.failures()).isEmpty();
    }
  }

  /** Adds a filter before ours. */
  private static void addFilter(Context context, Filter filter) {
    FilterDef definition = new FilterDef();
    definition.setFilterName("before");
    definition.setFilter(filter);
    definition.setAsyncSupported("true");
    context.addFilterDef(definition);
    FilterMap all = new FilterMap();
    all.setFilterName("before");
    all.addURLPattern("/*");
    context.addFilterMapBefore(all);
  }

  private static void addAlive(ServletContext context) {
    ServletRegistration.Dynamic alive = context.addServlet("alive", new Alive());
    alive.setAsyncSupported(true);
    alive.addMapping("/alive", "/dispatches");
  }

  static final class Alive extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      if (request.getDispatcherType() == DispatcherType.ASYNC) {
        response.getOutputStream().print("x".repeat(100_000));
        return;
      }
      AsyncContext async = request.startAsync();
      if (request.getServletPath().equals("/dispatches")) {
        Thread.ofVirtual().start(async::dispatch);
        return;
      }
      Thread.ofVirtual().start(() -> {
        try {
          response.getOutputStream().print("x".repeat(100));
          async.complete();
        } catch (Throwable failure) {
          FAILURES.add(failure);
        }
      });
    }
  }

  @Test
  void isNotBlamed_whenAFilterTakesAwayTheAttributesOfARequest() throws Exception {
    Filter filter = (request, response, chain) -> {
      chain.doFilter(request, response);
      Collections.list(request.getAttributeNames()).forEach(request::removeAttribute);
    };
    try (Watched watched = new Watched()) {
      HttpHandler handler = watched.routes().handle("/", Servlets.next()).handler();
      watched.tomcat(
          folder, handler, context -> addFilter(context, filter), ClientGoneTest::addAlive);
      try (RawClient client = new RawClient(watched.port())) {
        for (int i = 0; i < 20; i++) {
          assertThat(client.get("/alive").body()).hasSize(100);
        }
      }
      assertThat(FAILURES).isEmpty();
      assertThat(watched.failures()).isEmpty();
    }
  }

  @Test
  void isNotBlamed_whenAFilterFailsToWrite_andTheAnswerIsCut() throws Exception {
    Filter filter = (request, response, chain) ->
        chain.doFilter(request, new Quota((HttpServletResponse) response));
    try (Watched watched = new Watched()) {
      HttpHandler handler = watched.routes().handle("/", Servlets.next()).handler();
      watched.tomcat(
          folder, handler, context -> addFilter(context, filter), ClientGoneTest::addAlive);
      try (RawClient client = new RawClient(watched.port())) {
        client.send("GET /dispatches HTTP/1.1\r\nHost: x\r\n\r\n");
        String answer = new String(
            client.socket().getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
        assertThat(answer).startsWith("HTTP/1.1 200").doesNotEndWith("\r\n0\r\n\r\n");
      }
    }
  }

  private static final class Quota extends HttpServletResponseWrapper {
    Quota(HttpServletResponse response) {
      super(response);
    }

    @Override
    public ServletOutputStream getOutputStream() throws IOException {
      ServletOutputStream below = super.getOutputStream();
      return new ServletOutputStream() {
        private int left = 20_000;

        @Override
        public void write(int b) throws IOException {
          if (--left < 0) {
            throw new IOException("quota");
          }
          below.write(b);
        }

        @Override
        public void close() throws IOException {
          below.close();
        }

        @Override
        public void flush() throws IOException {
          below.flush();
        }

        @Override
        public boolean isReady() {
          return below.isReady();
        }

        @Override
        public void setWriteListener(WriteListener listener) {
          below.setWriteListener(listener);
        }
      };
    }
  }

  private static void isTold(int requests, String container, String path) throws Exception {
    try (Watched watched = new Watched();
        ErrorsOfTomcat errors = new ErrorsOfTomcat()) {
      HttpHandler handler = watched.routes().handle("/", Servlets.next()).handler();
      switch (container) {
        case "tomcat" -> watched.tomcat(folder, handler, context -> {}, ClientGoneTest::addServlet);
        case "tomcat behind a filter" ->
          watched.tomcat(
              folder,
              handler,
              context -> addFilter(context, new Wraps()),
              ClientGoneTest::addServlet);
        default ->
          watched.jetty(folder, handler, context -> {}, http -> {}, ClientGoneTest::addServlet);
      }
      List<List<String>> all = new ArrayList<>();
      for (int n = 1; n <= requests; n++) {
        try (RawClient client = new RawClient(watched.port())) {
          client.socket().setSoLinger(true, 0);
          client.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
          all.add(BEGUN.poll(30, TimeUnit.SECONDS));
        }
        GONE.release();
        assertThat(watched.logged(n)).hasSize(n);
      }
      if (!container.equals("jetty") || path.equals("/completes")) {
        await().until(() -> all.stream().allMatch(told -> told.contains("complete")));
      } // else there is no such end: Jetty's dispatch has failed
      assertThat(all).allSatisfy(told -> {
        assertThat(told).doesNotHaveDuplicates();
        assertThat(told.indexOf("complete")).isIn(-1, told.size() - 1);
      });
      assertThat(FAILURES).isEmpty();
      assertThat(watched.failures()).hasSize(requests).containsOnly("DEBUG http client went away");
      assertThat(errors.messages).isEmpty();
    }
  }
}
