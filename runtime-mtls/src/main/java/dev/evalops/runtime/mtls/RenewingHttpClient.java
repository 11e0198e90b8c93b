package dev.evalops.runtime.mtls;

import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.ProxySelector;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;

/**
 * A client of the JDK's, and another one from the first request after a change of the certificates on. The one before
 * is closed when its requests have ended, and its connections with it. Java 17 cannot close it: there they end once
 * they were idle for {@code jdk.httpclient.keepalive.timeout}.
 */
final class RenewingHttpClient extends HttpClient {
  private final Supplier<SSLContext> current;
  private final Supplier<HttpClient> make;
  private final ReentrantLock renewing = new ReentrantLock();
  private volatile Live live;
  private volatile boolean ended;

  RenewingHttpClient(Supplier<SSLContext> current, Supplier<HttpClient> make) {
    this.current = current;
    this.make = make;
    this.live = new Live(current.get(), make.get());
  }

  /** A client, and who begins a request with it. */
  private record Live(SSLContext madeWith, HttpClient client, Semaphore users) {
    Live(SSLContext madeWith, HttpClient client) {
      this(madeWith, client, new Semaphore(Integer.MAX_VALUE));
    }

    void retire() {
      Thread closing = new Thread(
          () -> {
            users.acquireUninterruptibly(Integer.MAX_VALUE);
            RenewingHttpClient.close(client);
          },
          "mtls-retire");
      closing.setDaemon(true);
      closing.start();
    }
  }

  private Live live() {
    Live now = live;
    if (ended || now.madeWith.equals(current.get())) {
      return now;
    }
    renewing.lock();
    try {
      SSLContext context = current.get();
      if (!ended && !live.madeWith.equals(context)) {
        Live before = live;
        live = new Live(context, make.get());
        before.retire();
      }
      return live;
    } finally {
      renewing.unlock();
    }
  }

  /** One that is not closed before it is released. */
  private Live acquired() {
    Live now = live();
    while (!now.users.tryAcquire()) {
      now = live();
    }
    return now;
  }

  @Override
  public <T> HttpResponse<T> send(HttpRequest request, BodyHandler<T> handler)
      throws IOException, InterruptedException {
    Live now = acquired();
    try {
      return now.client.send(request, handler);
    } finally {
      now.users.release();
    }
  }

  @Override
  public <T> CompletableFuture<HttpResponse<T>> sendAsync(
      HttpRequest request, BodyHandler<T> handler) {
    return sendAsync(request, handler, null);
  }

  @Override
  public <T> CompletableFuture<HttpResponse<T>> sendAsync(
      HttpRequest request,
      BodyHandler<T> handler,
      @Nullable PushPromiseHandler<T> pushPromiseHandler) {
    Live now = acquired();
    try {
      return now.client.sendAsync(request, handler, pushPromiseHandler);
    } finally {
      now.users.release();
    }
  }

  private static void close(HttpClient client) {
    try {
      if (client instanceof AutoCloseable closeable) { // from Java 21 on
        closeable.close();
      }
    } catch (Exception impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  // These override methods that a client has from Java 21 on.

  /** Lets requests end; there is no other client from now on. */
  public void close() {
    close(last());
  }

  /** As {@link #close}, without waiting. */
  public void shutdown() {
    call("shutdown", last());
  }

  /** Cuts requests. */
  public void shutdownNow() {
    call("shutdownNow", last());
  }

  /** Whether all requests have ended after it was shut down. */
  public boolean isTerminated() {
    return Boolean.TRUE.equals(call("isTerminated", live.client));
  }

  /** Waits for that. */
  public boolean awaitTermination(Duration bound) throws InterruptedException {
    try {
      return Boolean.TRUE.equals(HttpClient.class
          .getMethod("awaitTermination", Duration.class)
          .invoke(live.client, bound));
    } catch (InvocationTargetException failure) {
      if (failure.getCause() instanceof InterruptedException interrupted) {
        throw interrupted;
      }
      throw new IllegalStateException(failure.getCause());
    } catch (ReflectiveOperationException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private HttpClient last() {
    renewing.lock();
    try {
      ended = true;
      return live.client;
    } finally {
      renewing.unlock();
    }
  }

  private static @Nullable Object call(String method, HttpClient client) {
    try {
      return HttpClient.class.getMethod(method).invoke(client);
    } catch (ReflectiveOperationException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  @Override
  public Optional<CookieHandler> cookieHandler() {
    return live.client.cookieHandler();
  }

  @Override
  public Optional<Duration> connectTimeout() {
    return live.client.connectTimeout();
  }

  @Override
  public Redirect followRedirects() {
    return live.client.followRedirects();
  }

  @Override
  public Optional<ProxySelector> proxy() {
    return live.client.proxy();
  }

  @Override
  public SSLContext sslContext() {
    return live.client.sslContext();
  }

  @Override
  public SSLParameters sslParameters() {
    return live.client.sslParameters();
  }

  @Override
  public Optional<Authenticator> authenticator() {
    return live.client.authenticator();
  }

  @Override
  public Version version() {
    return live.client.version();
  }

  @Override
  public Optional<Executor> executor() {
    return live.client.executor();
  }

  @Override
  public WebSocket.Builder newWebSocketBuilder() {
    return live().client.newWebSocketBuilder();
  }
}
