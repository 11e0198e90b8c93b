package dev.evalops.runtime.http;

import java.io.Closeable;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * A request that a service makes to itself and keeps in flight while it drains. {@code HttpServer.stop(n)} alone closes
 * the listener, and it cuts all connections as soon as no request is in flight, even those on which one has just
 * arrived.
 */
final class DrainHold implements Closeable {
  private static final int CONNECT_MILLIS = 1000;
  private static final byte[] REQUEST =
      "GET / HTTP/1.1\r\nHost: drain\r\n\r\n".getBytes(StandardCharsets.US_ASCII);
  // The start of a handshake; more is not needed, and could not be sent without a client
  // certificate.
  private static final byte[] HANDSHAKE = {0x16, 3, 1};

  private final Socket socket = new Socket();
  private final CountDownLatch seen = new CountDownLatch(1);
  private final CountDownLatch released = new CountDownLatch(1);

  DrainHold(InetSocketAddress server) throws IOException {
    InetAddress address = server.getAddress();
    try {
      socket.connect(
          new InetSocketAddress(
              address.isAnyLocalAddress() ? InetAddress.getLoopbackAddress() : address,
              server.getPort()),
          CONNECT_MILLIS);
    } catch (IOException e) {
      socket.close();
      throw e;
    }
  }

  /** Sends the request; false if the server did not take it up. */
  boolean begin(boolean tls) throws IOException, InterruptedException {
    OutputStream out = socket.getOutputStream();
    out.write(tls ? HANDSHAKE : REQUEST);
    return seen.await(CONNECT_MILLIS, TimeUnit.MILLISECONDS);
  }

  boolean isFrom(InetSocketAddress remote) {
    return remote.getPort() == socket.getLocalPort()
        && socket.getLocalAddress().equals(remote.getAddress());
  }

  /** The server has taken up the request. */
  void seen() {
    seen.countDown();
  }

  /** Keeps the request in flight until {@link #close()}. */
  void await() {
    seen.countDown();
    try {
      released.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void close() {
    released.countDown();
    try {
      socket.close();
    } catch (IOException e) {
      // It is gone then.
    }
  }
}
