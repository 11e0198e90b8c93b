package dev.evalops.runtime.mtls;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.mtls.PemFiles.UnusableException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.security.cert.CertificateException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/** What a client and a server have in common: certificates in use, and the thread that follows their files. */
abstract sealed class Tls implements AutoCloseable permits ClientTls, ServerTls {
  private final PemFiles files;
  private final Policy policy;
  private final @Nullable Consumer<? super CertificateReload> listener;
  private final SSLContext context;
  private final ReentrantLock reloading = new ReentrantLock();
  private final CountDownLatch closed = new CountDownLatch(1);

  private volatile Material current;
  private volatile long changedAt; // milliseconds, 0 before the first change
  private final AtomicReference<Runnable> unregister;
  private volatile List<CertifiedKey> pairs; // the one in use, then the one before it
  private @Nullable String reported;

  Tls(TlsBuilder.Opened opened) {
    files = opened.files();
    policy = files.policy();
    listener = opened.listener();
    current = opened.material();
    pairs = current.pair() == null ? List.of() : List.of(current.pair());
    context = new LiveContext(() -> current.context(), policy);
    unregister = new AtomicReference<>(
        opened.registry() == null || files.certificate() == null
            ? () -> {}
            : ExpiryGauge.register(
                opened.registry(),
                policy.isClient() ? "client" : "server",
                files.certificate(),
                () -> notAfter().orElseThrow()));
    if (!opened.reloadEvery().isZero()) {
      Thread watcher = new Thread(() -> watch(opened.reloadEvery()), "mtls-reload");
      watcher.setDaemon(true);
      watcher.start();
    }
  }

  /** What is in use. */
  Material current() {
    return current;
  }

  /** When the files were last seen to have changed, in milliseconds; 0 if they were not. */
  long changedAt() {
    return changedAt;
  }

  /**
   * Returns the context for everything that takes one. It stays the same object while the certificates change
   * underneath. Its engines speak TLS 1.3 only; a client's check the server's name, a server's ask for the client
   * certificate, whatever the library sets on them. A client's context also has a socket factory (which makes connected
   * sockets only). Its session contexts are other objects after a change: by that Postgres, Redis and NATS of this
   * library see it.
   *
   * @return the context, for this side only
   */
  public SSLContext sslContext() {
    return context;
  }

  /**
   * Returns the parameters for a library that wants them beside the context: TLS 1.3, and the check of the server's
   * name or the need for client certificates.
   *
   * @return a new object at each call
   */
  public SSLParameters sslParameters() {
    return context.getDefaultSSLParameters();
  }

  /**
   * Returns a key manager for libraries that take managers instead of a context, such as Netty. It follows the files
   * too.
   *
   * @return a manager with our certificate and key
   * @throws IllegalStateException on a client without a certificate
   */
  public X509ExtendedKeyManager keyManager() {
    if (current.pair() == null) {
      throw new IllegalStateException("no certificate is configured");
    }
    return new PairKeyManager(() -> pairs, false);
  }

  /**
   * Returns a trust manager for libraries that take managers instead of a context, such as Netty. It follows the files
   * too. A client's checks the name of the server itself; a library that checks it too does so against the host that it
   * connects to.
   *
   * @return a manager that verifies the peer's certificates
   * @throws IllegalStateException on a server without a CA for its clients
   */
  public X509ExtendedTrustManager trustManager() {
    if (current.trust() == null) {
      throw new IllegalStateException("no CA is configured");
    }
    return new PolicyTrustManager(() -> requireNonNull(current.trust()), policy);
  }

  /**
   * Returns when our certificate expires, for a gauge and an alert on it.
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
   * Checks the files now, on the caller's thread.
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
        refused(e instanceof UnusableException ? String.valueOf(e.getMessage()) : e.toString());
        return false;
      }
      CertifiedKey pair = next.pair();
      if (pair != null && !isInTime(pair) && isInTime(requireNonNull(current.pair()))) {
        refused(files.certificate() + ": the certificate is valid from "
            + pair.leaf().getNotBefore().toInstant() + " to "
            + pair.leaf().getNotAfter().toInstant());
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
      changedAt = System.currentTimeMillis();
      report(new CertificateReload(notAfter(), Optional.empty()));
      return true;
    } finally {
      reloading.unlock();
    }
  }

  private void refused(String problem) {
    if (!problem.equals(reported)) {
      reported = problem;
      report(new CertificateReload(notAfter(), Optional.of(problem)));
    }
  }

  private static boolean isInTime(CertifiedKey pair) {
    try {
      pair.leaf().checkValidity();
      return true;
    } catch (CertificateException e) {
      return false;
    }
  }

  private void report(CertificateReload reload) {
    if (listener == null) {
      Level level = reload.problem().isPresent() ? Level.WARNING : Level.INFO;
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
    return System.getLogger(Tls.class.getPackageName());
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

  /**
   * Stops checking the files, and removes the gauge. Connections, and the context with the last certificates, keep
   * working.
   */
  @Override
  public void close() {
    unregister.getAndSet(() -> {}).run();
    closed.countDown();
  }
}
