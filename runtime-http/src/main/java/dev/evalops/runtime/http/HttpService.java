package dev.evalops.runtime.http;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.errors.StartupException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.channels.UnresolvedAddressException;
import java.nio.channels.UnsupportedAddressTypeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
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
 *     .handle("GET /v1/notes/{id}", notes::read, auth.require("notes:read"))
 *     .handle("POST /v1/notes", notes::create, auth.require("notes:write"))
 *     .handle("/healthz", HttpEndpoints.health("notes"))
 *     .start();
 * }</pre>
 *
 * <p>It is the JDK's {@code com.sun.net.httpserver}: HTTP/1.1 only, meant to stand behind a proxy or load balancer.
 * Requests run on virtual threads from Java 24 on, before that on at most 256 platform threads.
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
  private static final long MAX_STOP_SECONDS = TimeUnit.DAYS.toSeconds(20);

  private static final Duration STOP_PATIENCE = Duration.ofSeconds(2);

  /** A handler that may throw anything. */
  @FunctionalInterface
  public interface Handler extends HttpHandler {
    /**
     * Handles a request.
     *
     * @param exchange the exchange
     * @throws Exception a {@link ServiceException} is answered with its code, a dependency that is away or refuses the
     *     service ({@link dev.evalops.runtime.errors.FailureKind}) with 503 {@code unavailable}, any other exception
     *     with 500 {@code internal_error}
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

  private final HttpServer server;
  private final ExecutorService executor;

  // On one processor each virtual thread that the dispatcher starts takes the processor from it, so
  // that it finds one request at a time where many are waiting. This thread in between is woken
  // once
  // for all of them.
  private final @Nullable ExecutorService handover;

  private final Limits limits;
  private volatile Routes routes;
  private final Duration drainTimeout;
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

  private HttpService(Builder builder, Routes routes, HttpServer server) {
    this.server = server;
    this.executor = executor(builder.javaFeature);
    this.handover = onVirtualThreads(builder.javaFeature) && builder.processors == 1
        ? Executors.newSingleThreadExecutor(
            Thread.ofPlatform().daemon().name("http-handover").factory())
        : null;
    this.limits = new Limits(builder.maxBody, builder.maxInFlight, builder.lingering());
    this.routes = routes;
    this.drainTimeout = builder.drainTimeout;
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
   * Returns a builder.
   *
   * @param port the port to listen on; 0 for any free one
   * @return the builder
   */
  public static Builder builder(int port) {
    return new Builder(port);
  }

  /**
   * Returns a builder of routes for another server, see {@link Builder#handler()}.
   *
   * @return the builder
   */
  public static Builder builder() {
    return new Builder(null);
  }

  /**
   * Returns the port that the service listens on.
   *
   * @return 1 to 65535
   */
  public int port() {
    return server.getAddress().getPort();
  }

  /**
   * Returns where the service can be reached from this machine.
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
    Runnable counted = () -> {
      try {
        task.run();
      } finally {
        tasks.decrementAndGet();
      }
    };
    try {
      if (handover == null) {
        executor.execute(counted);
      } else {
        handover.execute(() -> executor.execute(counted));
      }
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
      routes.serve(raw, limits);
    } finally {
      serving.decrementAndGet();
    }
  }

  /**
   * Replaces the routes and filters from the next request on, for example when the dependencies that they need are up.
   *
   * <pre>{@code
   * HttpService http = HttpService.builder(8080)
   *     .handle("/healthz", HttpEndpoints.health("notes"))
   *     .handle("/startupz", HttpEndpoints.starting(life::pending))
   *     .handle("/", HttpEndpoints.unavailable())
   *     .start();
   * // … the dependencies are up
   * http.serve(HttpService.builder().filters(…).handle("/startupz", HttpEndpoints.health("notes")).handle(…));
   * }</pre>
   *
   * @param routes the routes and filters; its other settings are ignored, and those of the start stay
   * @throws IllegalArgumentException if routes are wrong, the message names each of them
   */
  public void serve(Builder routes) {
    this.routes = routes.routes(new ArrayList<>());
  }

  /**
   * Drains and stops: new connections are refused at once, requests that have arrived are answered with {@code
   * Connection: close}, and what is left when nothing arrives any more, or at the end of the time given by {@link
   * Builder#drainTimeout}, is cut off. An interrupt cuts off at once and is kept. Calls after the first do nothing. On
   * the thread of a handler it would wait for that handler's own request until it cuts it off; use another thread.
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
        if (drainTimeout.isPositive()) {
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
      if (handover != null) {
        handover.close(); // starts what is waiting, which does not take long
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
    stop((int) Math.min(drainTimeout.toSeconds(), MAX_STOP_SECONDS) + 5);
    long max =
        TimeUnit.NANOSECONDS.convert(drainTimeout); // the longest there is instead of an overflow
    long quietSince = start;
    long lastArrived = arrived.get();
    for (long now = start; now - start < max; now = System.nanoTime()) {
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
    return serving.get() + limits.suspended() - limits.lingering().count();
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

  /** Builds a service: every setting is checked when it starts. Not thread-safe. */
  public static final class Builder {
    private final @Nullable Integer port;
    private final List<Filter> filters = new ArrayList<>();
    private final List<Routes.Registration> registrations = new ArrayList<>();
    private @Nullable String host;
    private @Nullable SSLContext sslContext;
    private ClientCertificates clientCertificates = ClientCertificates.NONE;
    private long maxBody = Limits.DEFAULT_MAX_BODY;
    private int maxInFlight = 1000;
    private Duration drainTimeout = Duration.ofSeconds(10);
    private Duration readinessDelay = Duration.ZERO;
    private int javaFeature = Runtime.version().feature();
    private int processors = Runtime.getRuntime().availableProcessors();
    private @Nullable Duration lingerTimeout;

    private Builder(@Nullable Integer port) {
      this.port = port;
    }

    /**
     * Adds filters for every request, also for those that no route matches or that the service {@linkplain
     * RequestContext#refusal() refuses}. They know {@link RequestContext#route()}.
     *
     * @param filters outermost first
     * @return this builder
     */
    public Builder filters(Filter... filters) {
      this.filters.addAll(List.of(filters));
      return this;
    }

    /**
     * Adds a handler for a route or for a path.
     *
     * <p>A route has a method: {@code GET /v1/notes/{id}} is for GET and HEAD of paths of exactly three segments, of
     * which the last may be anything; {@link HttpRequests#pathValue} has its value, and {@link RequestContext#route()}
     * is {@code /v1/notes/{id}}. Where several match, the one that says most from left to right wins, whatever its
     * method: {@code /v1/notes/latest} over {@code /v1/notes/{id}}, which wins over the path {@code /v1/notes}. A
     * method that the winner does not have is answered with 405 {@code method_not_allowed} and {@code Allow}; no filter
     * of its own sees that.
     *
     * <p>A path is for all methods, and for everything below it: {@code /v1/notes} is for {@code /v1/notes}, {@code
     * /v1/notes/} and {@code /v1/notes/7}, not for {@code /v1/notesy}. Beside routes of the same path it has the
     * methods that they do not have.
     *
     * @param route a path, or a method (GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS), a space and a path, of which
     *     whole segments may be names in braces. A path starts with a slash and does not end with one, but for {@code
     *     /} itself; it is in its decoded form
     * @param handler the handler
     * @param filters filters for this route alone, within those for every request; outermost first
     * @return this builder
     */
    public Builder handle(String route, HttpHandler handler, Filter... filters) {
      registrations.add(new Routes.Registration(
          Objects.requireNonNull(route, "route"),
          Objects.requireNonNull(handler, "handler"),
          List.of(filters)));
      return this;
    }

    /**
     * As {@link #handle(String, HttpHandler, Filter...)}, for a lambda or method reference that throws checked
     * exceptions.
     *
     * @param route the route or path
     * @param handler the handler
     * @param filters filters for this route alone
     * @return this builder
     */
    public Builder handle(String route, Handler handler, Filter... filters) {
      return handle(route, (HttpHandler) handler, filters);
    }

    /**
     * Sets the address to listen on, instead of all.
     *
     * @param host a name or address of this machine; an IPv6 address with brackets or without
     * @return this builder
     */
    public Builder host(String host) {
      this.host = Objects.requireNonNull(host, "host");
      return this;
    }

    /**
     * Sets HTTPS, with TLS 1.3 only.
     *
     * @param context holds the server's key, and the CAs of clients
     * @param clients whether clients need a certificate; what the context says about that does not count, but one that
     *     checks clients, as of {@code ServerTls.requireClients}, refuses those without a certificate in any case
     * @return this builder
     */
    public Builder tls(SSLContext context, ClientCertificates clients) {
      this.sslContext = Objects.requireNonNull(context, "context");
      this.clientCertificates = Objects.requireNonNull(clients, "clients");
      return this;
    }

    /**
     * Sets the limit of request bodies; {@link HttpFilters#maxBody} sets another for a route.
     *
     * @param bytes the most bytes; 1 MiB by default, 0 for no bodies at all
     * @return this builder
     */
    public Builder maxBody(long bytes) {
      this.maxBody = bytes;
      return this;
    }

    /**
     * Sets how many requests are worked on at a time; more are refused with 503 {@code unavailable} and {@code
     * Retry-After}. A request counts until its response begins, and not while its client is sending the body: slow
     * clients take nobody's place. Those of {@link HttpEndpoints} do not count.
     *
     * @param requests 1 or more; 1000 by default
     * @return this builder
     */
    public Builder maxInFlight(int requests) {
      this.maxInFlight = requests;
      return this;
    }

    /**
     * Sets how long {@link HttpService#close()} waits for requests to be answered.
     *
     * @param timeout 10 s by default; zero cuts them off at once
     * @return this builder
     */
    public Builder drainTimeout(Duration timeout) {
      this.drainTimeout = Objects.requireNonNull(timeout, "drainTimeout");
      return this;
    }

    /**
     * Sets how long {@link HttpService#close()} says that the service is not ready while it still accepts connections,
     * so that a load balancer can turn away before connections are refused. Not part of {@link #drainTimeout}.
     *
     * @param delay zero by default; a little more than the period of the readiness probe
     * @return this builder
     */
    public Builder readinessDelay(Duration delay) {
      this.readinessDelay = Objects.requireNonNull(delay, "readinessDelay");
      return this;
    }

    Builder processors(int processors) {
      this.processors = processors;
      return this;
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
     * @throws IllegalArgumentException if settings or routes are wrong, the message names each of them; or if another
     *     {@code HttpServerProvider} than the JDK's is on the class path
     * @throws StartupException {@code http: cannot listen on …} if the port is taken, or the address is none of this
     *     machine
     */
    public HttpService start() {
      List<String> problems = new ArrayList<>();
      if (port == null) {
        problems.add("port is not set");
      } else if (port < 0 || port > 65535) {
        problems.add("port must be from 0 to 65535: " + port);
      }
      if (host != null && host.isBlank()) {
        problems.add("host must be a name or an address, as 0.0.0.0 for every address: " + host);
      }
      notNegative(drainTimeout, "drainTimeout", problems);
      notNegative(readinessDelay, "readinessDelay", problems);
      Routes routes = routes(problems);
      ServerProperties.apply(LoggerFactory.getLogger(ServerProperties.class));
      if (onVirtualThreads(javaFeature)) {
        ServerProperties.useTwoCarriers(LoggerFactory.getLogger(ServerProperties.class));
      }
      HttpServer server = listen();
      HttpService service = new HttpService(this, routes, server);
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

    /**
     * Returns one handler for another server, to be registered there for {@code /}: the filters, the routes and the
     * limits of bodies and of requests in flight. The server has its own port, TLS, threads and shutdown; those
     * settings of this builder are ignored.
     *
     * @return the handler
     * @throws IllegalArgumentException if settings or routes are wrong, the message names each of them
     */
    public HttpHandler handler() {
      Routes routes = routes(new ArrayList<>());
      Limits limits = new Limits(maxBody, maxInFlight, lingering());
      return exchange -> routes.serve(exchange, limits);
    }

    /** Checks what every server needs; throws if there are problems, those that are known already too. */
    private Routes routes(List<String> problems) {
      if (maxBody < 0) {
        problems.add("maxBody must be 0 or more: " + maxBody);
      }
      if (maxInFlight < 1) {
        problems.add("maxInFlight must be 1 or more: " + maxInFlight);
      }
      Routes routes = new Routes(registrations, filters, problems);
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      return routes;
    }

    private static void notNegative(Duration value, String name, List<String> problems) {
      if (value.isNegative()) {
        problems.add(name + " must be zero or more: " + value);
      }
    }

    private HttpServer listen() {
      int number = Objects.requireNonNull(port, "port");
      InetSocketAddress address =
          host == null ? new InetSocketAddress(number) : new InetSocketAddress(host, number);
      try {
        return sslContext == null
            ? HttpServer.create(address, BACKLOG)
            : HttpsServer.create(address, BACKLOG);
      } catch (IOException | UnresolvedAddressException | UnsupportedAddressTypeException e) {
        String where = host == null ? "port " + number : host + ", port " + number;
        String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        throw new StartupException("http: cannot listen on " + where + ": " + why, e);
      }
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
