package dev.evalops.runtime.mtls;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.mtls.PemFiles.UnusableException;
import dev.evalops.runtime.mtls.Policy.ClientAuth;
import dev.evalops.runtime.mtls.Policy.Side;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.net.http.HttpClient;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/**
 * TLS 1.3 between services, with certificates from PEM files.
 *
 * <pre>{@code
 * Mtls tls = Mtls.client().ca(caFile).certificate(certFile, keyFile).build();
 * HttpClient http = tls.httpClient();
 *
 * SSLContext context = Mtls.server().certificate(certFile, keyFile).requireClients(caFile).build().sslContext();
 * }</pre>
 *
 * <p>The files are looked at every 10 seconds, by content. When they change, new connections use the new certificates; those
 * that are open live on. Files that cannot be used (half written, a key of another certificate) change nothing, and are
 * reported once. No session from before a change is resumed after it, and none after an hour.
 *
 * <p>Thread-safe. {@link #close()} only stops the watching.
 */
public final class Mtls implements AutoCloseable {
  private static final Duration RELOAD_EVERY = Duration.ofSeconds(10);
  private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(5);

  private final PemFiles files;
  private final Policy policy;
  private final @Nullable Consumer<Reload> listener;
  private final SSLContext context;
  private final ReentrantLock reloading = new ReentrantLock();
  private final CountDownLatch closed = new CountDownLatch(1);
  private final @Nullable Thread watcher;

  private volatile Material current;
  private volatile List<CertifiedKey> pairs; // the one in use, then the one before it
  private @Nullable String reported;

  private Mtls(Builder<?> builder, PemFiles files) throws UnusableException {
    this.files = files;
    policy = files.policy();
    this.listener = builder.listener;
    current = files.load(null);
    pairs = current.pair() == null ? List.of() : List.of(current.pair());
    context = new LiveContext(() -> current.context(), policy);
    watcher = builder.reloadEvery.isZero()
        ? null
        : new Thread(() -> watch(builder.reloadEvery), "mtls-reload");
  }

  /**
   * A client, such as of internal services.
   *
   * @return its builder
   */
  public static ClientBuilder client() {
    return new ClientBuilder();
  }

  /**
   * A server.
   *
   * @return its builder
   */
  public static ServerBuilder server() {
    return new ServerBuilder();
  }

  /**
   * The context for everything that takes one: it stays the same object while the certificates change underneath. Its
   * engines speak TLS 1.3 alone; a client's check the server's name, a server's ask for the client certificate, whatever
   * the library sets on them. A client's context also has a socket factory (which makes connected sockets only).
   *
   * @return the context, for clients or for servers, not for both
   */
  public SSLContext sslContext() {
    return context;
  }

  /**
   * The parameters for a library that wants them beside the context: TLS 1.3, and the check of the server's name or the
   * need for client certificates.
   *
   * @return a new object at each call
   */
  public SSLParameters sslParameters() {
    return context.getDefaultSSLParameters();
  }

  /**
   * Makes an HTTP client with this context: connect timeout 5 seconds, no redirects, HTTP/2 where the server has it. The
   * time for an answer is set on each request. For other settings give {@link #sslContext()} and {@link #sslParameters()}
   * to {@link HttpClient#newBuilder()}.
   *
   * @return a new client at each call; keep it, it has a thread and a pool
   * @throws IllegalStateException on the server side
   */
  public HttpClient httpClient() {
    if (!policy.isClient()) {
      throw new IllegalStateException("this Mtls is for servers; build one with Mtls.client()");
    }
    return HttpClient.newBuilder()
        .sslContext(context)
        .sslParameters(sslParameters())
        .connectTimeout(CONNECT_TIMEOUT)
        .build();
  }

  /**
   * For libraries that take managers instead of a context (Netty's); follows the files as well.
   *
   * @return our certificate and key
   * @throws IllegalStateException if none is configured
   */
  public X509ExtendedKeyManager keyManager() {
    if (current.pair() == null) {
      throw new IllegalStateException("no certificate is configured");
    }
    return new PairKeyManager(() -> pairs, false);
  }

  /**
   * For libraries that take managers instead of a context (Netty's); follows the files as well. A client's checks the name
   * of the server itself; a library that checks it too does so against the host that it connects to.
   *
   * @return judge of the peer's certificates
   * @throws IllegalStateException on a server without a CA for its clients
   */
  public X509ExtendedTrustManager trustManager() {
    if (current.trust() == null) {
      throw new IllegalStateException("no CA is configured");
    }
    return new PolicyTrustManager(() -> requireNonNull(current.trust()), policy);
  }

  /**
   * The end of our certificate's life, for a gauge and an alert on it.
   *
   * @return empty on a client without a certificate
   */
  public Optional<Instant> notAfter() {
    CertifiedKey pair = current.pair();
    return pair == null
        ? Optional.empty()
        : Optional.of(pair.leaf().getNotAfter().toInstant());
  }

  /**
   * Looks at the files now, on the caller's thread.
   *
   * @return whether they had changed and are used from now on; false also when they cannot be used, which is reported
   */
  public boolean reload() {
    reloading.lock();
    try {
      Material next;
      try {
        next = files.load(current);
      } catch (UnusableException | RuntimeException e) {
        String problem =
            e instanceof UnusableException ? String.valueOf(e.getMessage()) : e.toString();
        if (!problem.equals(reported)) {
          reported = problem;
          report(new Reload(notAfter(), Optional.of(problem)));
        }
        return false;
      }
      reported = null;
      if (next.digest().equals(current.digest())) {
        return false;
      }
      CertifiedKey before = current.pair();
      CertifiedKey after = next.pair();
      if (after != null) {
        pairs = before == null ? List.of(after) : List.of(after, before);
      }
      current = next;
      report(new Reload(notAfter(), Optional.empty()));
      return true;
    } finally {
      reloading.unlock();
    }
  }

  private void report(Reload reload) {
    if (listener == null) {
      Level level = reload.problem.isPresent() ? Level.WARNING : Level.INFO;
      logger().log(level, reload.toString());
      return;
    }
    try {
      listener.accept(reload);
    } catch (Throwable e) {
      logger().log(Level.WARNING, "certificate reload listener failed", e);
    }
  }

  private static Logger logger() {
    return System.getLogger(Mtls.class.getPackageName());
  }

  private void watch(Duration interval) {
    try {
      while (!closed.await(TimeUnit.NANOSECONDS.convert(interval), TimeUnit.NANOSECONDS)) {
        try {
          reload();
        } catch (Throwable e) {
          logger().log(Level.WARNING, "certificate check failed; will retry", e);
        }
        Thread.interrupted(); // a listener's: it must not end the watching
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt(); // nobody but close() has business with this thread
    }
  }

  private Mtls start() {
    if (watcher != null) {
      watcher.setDaemon(true);
      watcher.start();
    }
    return this;
  }

  /** Stops the watching of the files. Connections, and the context with the last certificates, go on working. */
  @Override
  public void close() {
    closed.countDown();
  }

  /**
   * The files have changed.
   *
   * @param notAfter the end of the life of our certificate in use
   * @param problem why the files cannot be used, in which case the last good certificates stay in use; empty when they are
   */
  public record Reload(Optional<Instant> notAfter, Optional<String> problem) {
    @Override
    public String toString() {
      String validity = notAfter.map(end -> ", valid until " + end).orElse("");
      return problem
          .map(why ->
              "certificate reload failed; using the last good certificates" + validity + ": " + why)
          .orElse("certificates reloaded" + validity);
    }
  }

  /**
   * What client and server have in common. A file that is blank or null counts as not set, so that values can come straight
   * from the environment; half a configuration is an error, never plain text.
   *
   * @param <B> the builder itself
   */
  public abstract static sealed class Builder<B extends Builder<B>> {
    @Nullable
    Path ca;

    @Nullable
    Path certificate;

    @Nullable
    Path key;

    Duration reloadEvery = RELOAD_EVERY;

    @Nullable
    Consumer<Reload> listener;

    Builder() {}

    abstract B self();

    /** Adds what is missing or contradicts itself. */
    abstract void check(List<String> problems);

    abstract Policy policy();

    /** Whether any of the values that come from outside is there. */
    abstract boolean isConfigured();

    static @Nullable Path path(@Nullable String file) {
      return file == null || file.isBlank() ? null : Path.of(file.strip());
    }

    static @Nullable Path path(@Nullable Path file) {
      return file == null ? null : path(file.toString());
    }

    /**
     * Our certificate and its private key: PEM, RSA, EC or Ed25519, in PKCS#8, PKCS#1 or SEC1, not encrypted.
     *
     * @param certificateFile the leaf first, then its intermediates
     * @param keyFile may be the same file
     * @return this
     */
    public B certificate(@Nullable Path certificateFile, @Nullable Path keyFile) {
      certificate = path(certificateFile);
      key = path(keyFile);
      return self();
    }

    /**
     * Our certificate and its private key: PEM, RSA, EC or Ed25519, in PKCS#8, PKCS#1 or SEC1, not encrypted.
     *
     * @param certificateFile the leaf first, then its intermediates
     * @param keyFile may be the same file
     * @return this
     */
    public B certificate(@Nullable String certificateFile, @Nullable String keyFile) {
      certificate = path(certificateFile);
      key = path(keyFile);
      return self();
    }

    /**
     * How often the files are looked at (10 seconds), on a daemon thread named {@code mtls-reload}.
     *
     * @param interval zero starts no thread: then {@link Mtls#reload()} alone looks
     * @return this
     */
    public B reloadEvery(Duration interval) {
      reloadEvery = requireNonNull(interval, "interval");
      return self();
    }

    /**
     * Is told of every change of the files, on the thread that saw it: once for a new state, and once for a problem however
     * long it lasts. Without it, both are logged to the {@link System.Logger} {@code dev.evalops.runtime.mtls}.
     *
     * @param newListener called one at a time
     * @return this
     */
    public B onReload(Consumer<Reload> newListener) {
      listener = requireNonNull(newListener, "newListener");
      return self();
    }

    /**
     * Reads the files, and starts to watch them.
     *
     * @return the certificates, ready for use
     * @throws IllegalArgumentException with every problem, if something is missing or a file cannot be used
     */
    public Mtls build() {
      List<String> problems = new ArrayList<>();
      if (reloadEvery.isNegative()) {
        problems.add("reloadEvery must be zero or more: " + reloadEvery);
      }
      check(problems);
      try {
        // What is there is read although something is missing, to report all in one.
        Path usableCertificate = key == null ? null : certificate;
        Path usableKey = certificate == null ? null : key;
        PemFiles files = new PemFiles(policy(), ca, usableCertificate, usableKey);
        if (problems.isEmpty()) {
          return new Mtls(this, files).start();
        }
        files.load(null);
      } catch (UnusableException e) {
        problems.add(e.getMessage());
      }
      throw new IllegalArgumentException(String.join("; ", problems));
    }

    /**
     * Like {@link #build()}, for TLS that is optional.
     *
     * @return empty if no file and no server name is set
     * @throws IllegalArgumentException with every problem, if something is missing or a file cannot be used
     */
    public Optional<Mtls> buildIfConfigured() {
      return isConfigured() ? Optional.of(build()) : Optional.empty();
    }
  }

  /** Builds a client. Not thread-safe. */
  public static final class ClientBuilder extends Builder<ClientBuilder> {
    private @Nullable String serverName;
    private boolean publicRoots;

    private ClientBuilder() {}

    @Override
    ClientBuilder self() {
      return this;
    }

    /**
     * The authorities that issue the servers' certificates; no others are trusted.
     *
     * @param file PEM, one or more certificates
     * @return this
     */
    public ClientBuilder ca(@Nullable Path file) {
      ca = path(file);
      return this;
    }

    /**
     * The authorities that issue the servers' certificates; no others are trusted.
     *
     * @param file PEM, one or more certificates
     * @return this
     */
    public ClientBuilder ca(@Nullable String file) {
      ca = path(file);
      return this;
    }

    /**
     * Trusts the JDK's public roots when no CA is set, instead of refusing to build: for servers on the open internet.
     *
     * @return this
     */
    public ClientBuilder publicRoots() {
      publicRoots = true;
      return this;
    }

    /**
     * The name that the server's certificate must have, instead of the host of the URL; it is also sent as SNI, which knows
     * neither IP addresses nor, in Java, names with an underscore.
     *
     * @param name DNS name or IP address, without a port; blank or null: the host of the URL
     * @return this
     */
    public ClientBuilder serverName(@Nullable String name) {
      serverName = name == null || name.isBlank() ? null : name.strip();
      return this;
    }

    @Override
    boolean isConfigured() {
      return ca != null || certificate != null || key != null || serverName != null;
    }

    @Override
    void check(List<String> problems) {
      if (certificate == null && key != null) {
        problems.add("tls_cert_file_required");
      }
      if (key == null && certificate != null) {
        problems.add("tls_key_file_required");
      }
      if (ca == null && !publicRoots) {
        problems.add("tls_ca_file_required (or publicRoots(), to trust every public authority)");
      }
      if (serverName != null) {
        try {
          serverName = ServerName.normalise(serverName);
        } catch (IllegalArgumentException e) {
          problems.add("tls_server_name_invalid: " + serverName);
        }
      }
    }

    @Override
    Policy policy() {
      return new Policy(Side.CLIENT, serverName, ClientAuth.NONE);
    }
  }

  /** Builds a server. Not thread-safe. */
  public static final class ServerBuilder extends Builder<ServerBuilder> {
    private ClientAuth clientAuth = ClientAuth.NONE;

    private ServerBuilder() {}

    @Override
    ServerBuilder self() {
      return this;
    }

    /**
     * No client can connect without a certificate of these authorities.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public ServerBuilder requireClients(@Nullable Path caFile) {
      return clients(ClientAuth.REQUIRED, path(caFile));
    }

    /**
     * No client can connect without a certificate of these authorities.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public ServerBuilder requireClients(@Nullable String caFile) {
      return clients(ClientAuth.REQUIRED, path(caFile));
    }

    /**
     * A client may come without a certificate, but not with one that is not of these authorities. Handlers that need one say
     * so with {@link MtlsFilters}.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public ServerBuilder wantClients(@Nullable Path caFile) {
      return clients(ClientAuth.WANTED, path(caFile));
    }

    /**
     * A client may come without a certificate, but not with one that is not of these authorities. Handlers that need one say
     * so with {@link MtlsFilters}.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public ServerBuilder wantClients(@Nullable String caFile) {
      return clients(ClientAuth.WANTED, path(caFile));
    }

    private ServerBuilder clients(ClientAuth mode, @Nullable Path caFile) {
      if (clientAuth != ClientAuth.NONE && clientAuth != mode) {
        throw new IllegalArgumentException("requireClients and wantClients exclude each other");
      }
      clientAuth = mode;
      ca = caFile;
      return this;
    }

    @Override
    boolean isConfigured() {
      return ca != null || certificate != null || key != null;
    }

    @Override
    void check(List<String> problems) {
      if (certificate == null || key == null) {
        problems.add("tls_cert_and_key_must_both_be_set");
      }
      if (clientAuth != ClientAuth.NONE && ca == null) {
        problems.add("tls_client_ca_file_required");
      }
    }

    @Override
    Policy policy() {
      return new Policy(Side.SERVER, null, clientAuth);
    }
  }
}
