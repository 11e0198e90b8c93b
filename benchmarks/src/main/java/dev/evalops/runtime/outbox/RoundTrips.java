package dev.evalops.runtime.outbox;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/** Stands before a Postgres and counts how often its clients ask it something after it has answered. */
final class RoundTrips implements AutoCloseable {
  private static final int SYNC = 'S';
  private static final int QUERY = 'Q';
  private static final byte[] SSL_REQUEST = {4, (byte) 210, 22, 47};

  private final String url;
  private final int server;
  private final ServerSocket listener;
  private final AtomicLong count = new AtomicLong();

  private RoundTrips(String url) throws IOException {
    this.server = URI.create(url).getPort();
    this.listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    this.url = url.replace(":" + server, ":" + listener.getLocalPort());
  }

  static RoundTrips before(String url) throws IOException {
    RoundTrips tap = new RoundTrips(url);
    Thread.ofVirtual().start(tap::serve);
    return tap;
  }

  String url() {
    return url;
  }

  long count() {
    return count.get();
  }

  private void serve() {
    try {
      while (true) {
        Socket client = listener.accept();
        Thread.ofVirtual().start(() -> copy(client));
      }
    } catch (IOException closed) {
      // the end
    }
  }

  private void copy(Socket client) {
    try (client;
        Socket upstream = new Socket(InetAddress.getLoopbackAddress(), server)) {
      client.setTcpNoDelay(true);
      upstream.setTcpNoDelay(true);
      AtomicBoolean answered = new AtomicBoolean(true);
      Thread.ofVirtual().start(() -> {
        try {
          byte[] buffer = new byte[64 << 10];
          for (int n = upstream.getInputStream().read(buffer);
              n >= 0;
              n = upstream.getInputStream().read(buffer)) {
            answered.set(true);
            client.getOutputStream().write(buffer, 0, n);
          }
        } catch (IOException e) {
          // the other direction ends, too
        }
      });
      requests(client, upstream, answered);
    } catch (IOException e) {
      // one side has closed it
    }
  }

  private void requests(Socket client, Socket upstream, AtomicBoolean answered) throws IOException {
    DataInputStream in = new DataInputStream(new BufferedInputStream(client.getInputStream()));
    DataOutputStream out =
        new DataOutputStream(new BufferedOutputStream(upstream.getOutputStream()));
    boolean started = false;
    while (true) {
      if (started) {
        int type = in.readUnsignedByte();
        if ((type == SYNC || type == QUERY) && answered.getAndSet(false)) {
          count.incrementAndGet();
        }
        out.writeByte(type);
      }
      int length = in.readInt();
      byte[] message = in.readNBytes(length - 4);
      out.writeInt(length);
      out.write(message);
      started = started || !Arrays.equals(message, SSL_REQUEST);
      if (in.available() == 0) {
        out.flush();
      }
    }
  }

  @Override
  public void close() throws IOException {
    listener.close();
  }
}
