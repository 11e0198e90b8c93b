package dev.evalops.runtime.http;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/**
 * A running HTTP server that bounds what clients can do to it, answers every request, and drains when closed.
 *
 * <pre>{@code
 * HttpService http = HttpService.builder(8080)
 *     .filters(HttpFilters.requestId(), HttpFilters.requestLog(log))
 *     .handle("/v1/notes", notes)
 *     .handle("/healthz", HttpEndpoints.health("notes"))
 *     .start();
 * }</pre>
 *
 * <p>It is the JDK's {@code com.sun.net.httpserver}: HTTP/1.1 only, meant to stand behind a proxy or load balancer. Requests
 * run on virtual threads from Java 24 on, before that on at most 256 platform threads.
 *
 * <p>Thread-safe.
 */
public final class HttpService implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(HttpService.class);

  private static final int BACKLOG = 1024;
  // While draining: how long nothing may arrive before connections are closed, and how long if one
  // is sending a request.
  private static final long QUIET_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long QUIET_READING_NANOS = TimeUnit.SECONDS.toNanos(1);

  // Of HttpServer.stop, which counts milliseconds in an int on some versions.
  private static final long MOST_STOP_SECONDS = TimeUnit.DAYS.toSeconds(20);

  private static final Duration STOP_PATIENCE = Duration.ofSeconds(2);

  /** A handler that may throw anything. */
  @FunctionalInterface
  public interface Handler extends HttpHandler {
    /**
     * Handles a request.
     *
     * @param exchange the exchange
     * @throws Exception a {@link ServiceException} to answer with its code; everything else is answered as an internal error
     */
    void serve(HttpExchange exchange) throws Exception;

    /** Calls {@link #serve}; what it throws passes through as it is, though the signature does not say so. */
    @Override
    default void handle(HttpExchange exchange) throws IOException {
      try {
        serve(exchange);
      } catch (Exception e) {
        throw HttpService.<RuntimeException>unchecked(e);
      }
    }
  }

  // Lets a checked exception through a signature that does not name it; the guard catches it.
  @SuppressWarnings({"unchecked", "TypeParameterUnusedInFormals"})
  private static <E extends Exception> E unchecked(Exception e) throws E {
    throw (E) e;
  }

  /** Whether clients show a certificate of their own. */
  public enum ClientCertificates {
    /** They are not asked for one. */
    NONE,
    /** They are asked; if they have one it must be valid. A filter decides about the others. */
    WANTED,
    /** They cannot connect without a valid one. */
    REQUIRED
  }

  private record Route(String path, HttpHandler chain, boolean vital) {
    boolean matches(String requestPath) {
      return requestPath.startsWith(path)
          && (requestPath.length() == path.length()
              || path.length() == 1
              || requestPath.charAt(path.length()) == '/');
    }
  }

  private final HttpServer server;
  private final ExecutorService executor;
  private final Limits limits;
  private final List<Filter> filters;
  private final List<Route> routes;
  private final Route unmatched;
  private final Duration drain;
  private final Duration readinessDelay;
  private final URI uri;

  // Connections on which something has arrived that is not answered yet; and requests among them
  // that have been read.
  private final AtomicInteger tasks = new AtomicInteger();
  private final AtomicInteger serving = new AtomicInteger();
  private final AtomicLong arrived = new AtomicLong();
  private final ReentrantLock closing = new ReentrantLock();
  private volatile @Nullable DrainHold hold;
  private boolean closed;

  private HttpService(Builder builder, HttpServer server) {
    this.server = server;
    this.executor = executor(builder.javaFeature);
    this.limits = new Limits(builder.maxBody, builder.maxInFlight, builder.lingering());
    this.filters = List.copyOf(builder.filters);
    this.routes = builder.routes();
    this.unmatched = new Route(
        RequestContext.UNMATCHED,
        new Guard(builder.filters, exchange -> {
          throw ServiceException.of(ErrorCode.NOT_FOUND).op("http.route");
        }),
        false);
    this.drain = builder.drain;
    this.readinessDelay = builder.readinessDelay;
    String scheme = builder.sslContext == null ? "http" : "https";
    String name = builder.host == null ? "localhost" : builder.host;
    this.uri =
        URI.create(scheme + "://" + (isBareIpv6(name) ? "[" + name + "]" : name) + ":" + port());
  }

  private static boolean isBareIpv6(String host) {
    return host.indexOf(':') >= 0 && !host.startsWith("[");
  }

  /**
   * Starts to describe a service.
   *
   * @param port the port to listen on; 0 for any free one
   * @return the builder
   */
  public static Builder builder(int port) {
    return new Builder(port);
  }

  /**
   * The port that the service listens on.
   *
   * @return 1 to 65535
   */
  public int port() {
    return server.getAddress().getPort();
  }

  /**
   * Where the service can be reached from this machine.
   *
   * @return for example {@code http://localhost:8080}
   */
  public URI uri() {
    return uri;
  }

  // The server blocks within synchronized, which holds the carrier of a virtual thread before Java
  // 24.
  private static boolean onVirtualThreads(int javaFeature) {
    return javaFeature >= 24;
  }

  private static ExecutorService executor(int javaFeature) {
    if (onVirtualThreads(javaFeature)) {
      return Executors.newThreadPerTaskExecutor(
          Thread.ofVirtual().name("http-", 0).factory());
    }
    ThreadPoolExecutor pool = new ThreadPoolExecutor(
        256,
        256,
        60,
        TimeUnit.SECONDS,
        new LinkedBlockingQueue<>(1024),
        Thread.ofPlatform().daemon().name("http-", 0).factory());
    pool.allowCoreThreadTimeOut(true);
    return pool;
  }

  private void execute(Runnable task) {
    tasks.incrementAndGet();
    try {
      executor.execute(() -> {
        try {
          task.run();
        } finally {
          tasks.decrementAndGet();
        }
      });
    } catch (RejectedExecutionException e) {
      tasks.decrementAndGet();
      if (!limits.draining()) {
        limits.refused(); // All threads and places to wait for one are taken: there is no answer.
      }
      throw e;
    }
  }

  private void serve(HttpExchange raw) throws IOException {
    DrainHold holding = hold;
    if (holding != null && holding.isFrom(raw.getRemoteAddress())) {
      holding.await();
      return;
    }
    serving.incrementAndGet();
    arrived.incrementAndGet();
    try {
      GuardedExchange guarded = new GuardedExchange(raw, limits, RequestContext.UNMATCHED);
      Guard.run(guarded, filters, () -> {
        Guard.check(guarded);
        Route route = route(guarded.context().path());
        guarded.context().route(route.path());
        if (!route.vital()) {
          guarded.enter();
        }
        return route.chain();
      });
    } finally {
      serving.decrementAndGet();
    }
  }

  private Route route(String path) {
    for (Route route : routes) {
      if (route.matches(path)) {
        return route;
      }
    }
    return unmatched;
  }

  /**
   * Drains and stops: new connections are refused at once, requests that have arrived are answered with {@code Connection:
   * close}, and what is left when nothing arrives any more, or at the end of the time given by {@link Builder#drain}, is cut
   * off. An interrupt cuts off at once and is kept. Calls after the first do nothing.
   */
  @Override
  public void close() {
    closing.lock();
    try {
      if (closed) {
        return;
      }
      closed = true;
      limits.drain();
      long start = System.nanoTime();
      boolean interrupted = false;
      try {
        if (readinessDelay.isPositive()) {
          Thread.sleep(readinessDelay);
        }
        if (drain.isPositive()) {
          drain();
        }
      } catch (InterruptedException e) {
        interrupted = true;
      }
      int cut = answering();
      // Cut first, then interrupt: a handler must not answer an error of its own in between.
      try {
        stop(0).join(STOP_PATIENCE);
      } catch (InterruptedException e) {
        interrupted = true;
      }
      executor.shutdownNow();
      limits.lingering().close();
      limits.reportRefused();
      DrainHold holding = hold;
      if (holding != null) {
        holding.close();
      }
      LOG.atLevel(cut == 0 ? Level.INFO : Level.WARN)
          .addKeyValue("requests_cut", cut)
          .addKeyValue("duration_ms", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start))
          .log("http service stopped");
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    } finally {
      closing.unlock();
    }
  }

  private void drain() throws InterruptedException {
    long start = System.nanoTime();
    int held = hold() ? 1 : 0;
    // Closes the listener; waits longer than we do.
    stop((int) Math.min(drain.toSeconds(), MOST_STOP_SECONDS) + 5);
    long most = TimeUnit.NANOSECONDS.convert(drain); // the longest there is instead of an overflow
    long quietSince = start;
    long lastArrived = arrived.get();
    for (long now = start; now - start < most; now = System.nanoTime()) {
      if (answering() > 0 || arrived.get() != lastArrived) {
        quietSince = now;
        lastArrived = arrived.get();
      } else if (now - quietSince >= (tasks.get() > held ? QUIET_READING_NANOS : QUIET_NANOS)) {
        return;
      }
      TimeUnit.MILLISECONDS.sleep(5);
    }
  }

  /** The requests that are not answered yet. */
  private int answering() {
    return serving.get() - limits.lingering().count();
  }

  private boolean hold() throws InterruptedException {
    try {
      DrainHold holding = new DrainHold(server.getAddress());
      hold = holding;
      return holding.begin(server instanceof HttpsServer);
    } catch (IOException e) {
      LOG.atDebug().setCause(e).log("http service drains without a request to itself");
      return false;
    }
  }

  private Thread stop(int seconds) {
    return Thread.ofPlatform().daemon().name("http-stop").start(() -> server.stop(seconds));
  }

  /** Describes a service; not thread-safe. */
  public static final class Builder {
    private final int port;
    private final List<Filter> filters = new ArrayList<>();
    private final List<Registration> registrations = new ArrayList<>();
    private @Nullable String host;
    private @Nullable SSLContext sslContext;
    private ClientCertificates clientCertificates = ClientCertificates.NONE;
    private long maxBody = Limits.DEFAULT_MAX_BODY;
    private int maxInFlight = 1000;
    private Duration drain = Duration.ofSeconds(10);
    private Duration readinessDelay = Duration.ZERO;
    private int javaFeature = Runtime.version().feature();
    private @Nullable Duration lingerTimeout;

    private record Registration(String path, HttpHandler handler, List<Filter> filters) {}

    private Builder(int port) {
      if (port < 0 || port > 65535) {
        throw new IllegalArgumentException("port must be between 0 and 65535");
      }
      this.port = port;
    }

    /**
     * Adds filters for every request, also for those that no path matches or that the service {@linkplain RequestContext#refusal()
     * refuses}. They know {@link RequestContext#route()}.
     *
     * @param filters outermost first
     * @return this builder
     */
    public Builder filters(Filter... filters) {
      this.filters.addAll(List.of(filters));
      return this;
    }

    /**
     * Registers a handler for a path and everything below it: {@code /v1/notes} is for {@code /v1/notes}, {@code
     * /v1/notes/} and {@code /v1/notes/7}, not for {@code /v1/notesy}. The longest path that matches wins.
     *
     * @param path starts with a slash and does not end with one, but for {@code /} itself; in its decoded form
     * @param handler the handler
     * @param filters filters for this path alone, within those for every request; outermost first
     * @return this builder
     */
    public Builder handle(String path, HttpHandler handler, Filter... filters) {
      registrations.add(new Registration(
          Objects.requireNonNull(path, "path"),
          Objects.requireNonNull(handler, "handler"),
          List.of(filters)));
      return this;
    }

    /**
     * As {@link #handle(String, HttpHandler, Filter...)}, for a lambda or method reference that throws checked exceptions.
     *
     * @param path the path
     * @param handler the handler
     * @param filters filters for this path alone
     * @return this builder
     */
    public Builder handle(String path, Handler handler, Filter... filters) {
      return handle(path, (HttpHandler) handler, filters);
    }

    /**
     * Listens on one address instead of all.
     *
     * @param host a name or address of this machine, not blank; an IPv6 address with brackets or without
     * @return this builder
     * @throws IllegalArgumentException if it is blank
     */
    public Builder host(String host) {
      if (Objects.requireNonNull(host, "host").isBlank()) {
        throw new IllegalArgumentException("host must not be blank; 0.0.0.0 is every address");
      }
      this.host = host;
      return this;
    }

    /**
     * Serves HTTPS, with TLS 1.3 only.
     *
     * @param context holds the server's key, and the CAs of clients
     * @param clients whether clients need a certificate; what the context says about that does not count
     * @return this builder
     */
    public Builder tls(SSLContext context, ClientCertificates clients) {
      this.sslContext = Objects.requireNonNull(context, "context");
      this.clientCertificates = Objects.requireNonNull(clients, "clients");
      return this;
    }

    /**
     * Limits request bodies; {@link HttpFilters#maxBody} says otherwise for a path.
     *
     * @param bytes the most bytes, 0 or more; 1 MiB by default
     * @return this builder
     */
    public Builder maxBody(long bytes) {
      if (bytes < 0) {
        throw new IllegalArgumentException("bytes must not be negative");
      }
      this.maxBody = bytes;
      return this;
    }

    /**
     * Limits how many requests are worked on at a time; more are refused with 503 {@code unavailable} and {@code Retry-After}.
     * A request counts until its response begins, and not while its client is sending the body: slow clients take nobody's
     * place. Those of {@link HttpEndpoints} do not count.
     *
     * @param requests 1 or more; 1000 by default
     * @return this builder
     */
    public Builder maxInFlight(int requests) {
      if (requests < 1) {
        throw new IllegalArgumentException("requests must be at least 1");
      }
      this.maxInFlight = requests;
      return this;
    }

    /**
     * Limits how long {@link HttpService#close()} waits for requests to be answered.
     *
     * @param limit 10 s by default; zero cuts them off at once
     * @return this builder
     */
    public Builder drain(Duration limit) {
      this.drain = notNegative(limit, "limit");
      return this;
    }

    /**
     * How long {@link HttpService#close()} says that the service is not ready while it still accepts connections, so that a
     * load balancer can turn away before connections are refused. Not part of {@link #drain}.
     *
     * @param delay zero by default; a little more than the period of the readiness probe
     * @return this builder
     */
    public Builder readinessDelay(Duration delay) {
      this.readinessDelay = notNegative(delay, "delay");
      return this;
    }

    private static Duration notNegative(Duration value, String name) {
      if (value.isNegative()) {
        throw new IllegalArgumentException(name + " must not be negative");
      }
      return value;
    }

    Builder javaFeature(int feature) {
      this.javaFeature = feature;
      return this;
    }

    Builder lingerTimeout(Duration timeout) {
      this.lingerTimeout = timeout;
      return this;
    }

    private Lingering lingering() {
      int max = onVirtualThreads(javaFeature)
          ? Lingering.MAX_ON_VIRTUAL_THREADS
          : Lingering.MAX_ON_PLATFORM_THREADS;
      return lingerTimeout == null ? new Lingering(max) : new Lingering(max, lingerTimeout);
    }

    /**
     * Starts the service.
     *
     * @return the service, which is answering
     * @throws IllegalArgumentException if something about the registered paths is wrong, the message names each of them; or if
     *     another {@code HttpServerProvider} than the JDK's is on the class path
     * @throws UncheckedIOException {@code listen failed: …} if the port cannot be listened on
     */
    public HttpService start() {
      checkPaths();
      ServerProperties.apply(LoggerFactory.getLogger(ServerProperties.class));
      InetSocketAddress address =
          host == null ? new InetSocketAddress(port) : new InetSocketAddress(host, port);
      HttpServer server;
      try {
        server = sslContext == null
            ? HttpServer.create(address, BACKLOG)
            : HttpsServer.create(address, BACKLOG);
      } catch (IOException e) {
        throw new UncheckedIOException(
            new IOException("listen failed: " + address + ": " + e.getMessage(), e));
      }
      HttpService service = new HttpService(this, server);
      if (sslContext != null) {
        ((HttpsServer) server)
            .setHttpsConfigurator(service.configurator(sslContext, clientCertificates));
      }
      server.setExecutor(service::execute);
      server.createContext("/", service::serve);
      server.start();
      LOG.atInfo()
          .addKeyValue("uri", service.uri())
          .addKeyValue("provider", server.getClass().getName())
          .addKeyValue("client_certificates", clientCertificates)
          .log("http service started");
      return service;
    }

    private void checkPaths() {
      List<String> problems = new ArrayList<>();
      Set<String> seen = new HashSet<>();
      for (Registration registration : registrations) {
        String path = registration.path();
        if (!path.startsWith("/") || (path.length() > 1 && path.endsWith("/"))) {
          problems.add("path " + path + " must start with a slash and not end with one");
        } else if (!isPlain(path)) {
          problems.add(
              "path " + path + " must be plain: no escapes, empty segments or dot segments");
        } else if (!seen.add(path)) {
          problems.add("path " + path + " is registered twice");
        }
      }
      if (registrations.isEmpty()) {
        problems.add("no path is registered; call handle(path, handler)");
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
    }

    private static boolean isPlain(String path) {
      try {
        return RequestRules.path(path).equals(path);
      } catch (ServiceException e) {
        return false;
      }
    }

    private List<Route> routes() {
      return registrations.stream()
          .sorted(Comparator.comparingInt((Registration r) -> r.path().length()).reversed())
          .map(r -> {
            List<Filter> all = new ArrayList<>(filters);
            all.addAll(r.filters());
            return new Route(
                r.path(),
                new Guard(List.copyOf(all), r.handler()),
                r.handler() instanceof HttpEndpoints.Vital);
          })
          .toList();
    }
  }

  private HttpsConfigurator configurator(SSLContext context, ClientCertificates clients) {
    return new HttpsConfigurator(context) {
      @Override
      public void configure(HttpsParameters parameters) {
        DrainHold holding = hold;
        if (holding != null && holding.isFrom(parameters.getClientAddress())) {
          holding.seen();
        }
        // The setters of HttpsParameters are void on some providers and versions.
        SSLParameters ssl = context.getDefaultSSLParameters();
        ssl.setProtocols(new String[] {"TLSv1.3"});
        switch (clients) {
          case NONE -> ssl.setNeedClientAuth(false);
          case WANTED -> ssl.setWantClientAuth(true);
          case REQUIRED -> ssl.setNeedClientAuth(true);
        }
        parameters.setSSLParameters(ssl);
      }
    };
  }
}
