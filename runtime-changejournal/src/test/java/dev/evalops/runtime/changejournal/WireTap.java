package dev.evalops.runtime.changejournal;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.URI;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Stands between one client and the server, and counts how often the client asks for the server's sign that it is ready
 * again.
 */
final class WireTap implements AutoCloseable {
  private static final int SYNC = 'S';
  private static final int QUERY = 'Q';

  private final URI server;
  private final ServerSocket listener;
  private final AtomicLong roundTrips = new AtomicLong();

  private WireTap(URI server) throws IOException {
    this.server = server;
    this.listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
  }

  static WireTap to(String jdbcUrl) throws IOException {
    WireTap tap = new WireTap(URI.create(jdbcUrl.substring("jdbc:".length())));
    Thread.ofVirtual().start(tap::serve);
    return tap;
  }

  String url() {
    return "jdbc:postgresql://127.0.0.1:" + listener.getLocalPort() + server.getRawPath() + "?"
        + server.getRawQuery();
  }

  /** Exact once the client has its answer. */
  long roundTrips() {
    return roundTrips.get();
  }

  private void serve() {
    try (Socket client = listener.accept();
        Socket upstream = new Socket(server.getHost(), server.getPort())) {
      client.setTcpNoDelay(true);
      upstream.setTcpNoDelay(true);
      Thread answers = Thread.ofVirtual().start(() -> {
        try {
          upstream.getInputStream().transferTo(client.getOutputStream());
        } catch (IOException e) {
          // The other direction ends, too.
        }
      });
      requests(client, upstream);
      answers.interrupt();
    } catch (EOFException | SocketException e) {
      // Closed.
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private void requests(Socket client, Socket upstream) throws IOException {
    DataInputStream in = new DataInputStream(new BufferedInputStream(client.getInputStream()));
    DataOutputStream out =
        new DataOutputStream(new BufferedOutputStream(upstream.getOutputStream()));
    boolean started = false;
    while (true) {
      if (started) {
        int type = in.readUnsignedByte();
        if (type == SYNC || type == QUERY) {
          roundTrips.incrementAndGet();
        }
        out.writeByte(type);
      }
      int length = in.readInt();
      out.writeInt(length);
      out.write(in.readNBytes(length - 4));
      started = true;
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
