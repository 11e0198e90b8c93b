package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** A server that does to each connection, whose request it has read, whatever it likes. */
final class RawServer implements AutoCloseable {
  interface Behaviour {
    void meet(Socket socket, String request) throws IOException, InterruptedException;
  }

  private final ServerSocket listener;
  private final ExecutorService threads = Executors.newCachedThreadPool();

  RawServer(Behaviour behaviour) throws IOException {
    listener = new ServerSocket(0, 128, InetAddress.getLoopbackAddress());
    threads.execute(() -> accept(behaviour));
  }

  private void accept(Behaviour behaviour) {
    while (!listener.isClosed()) {
      try {
        Socket socket = listener.accept();
        threads.execute(() -> {
          try (socket) {
            behaviour.meet(socket, readRequest(socket.getInputStream()));
          } catch (IOException | InterruptedException e) {
            // The client has gone, or the test is over.
          }
        });
      } catch (IOException e) {
        if (!listener.isClosed()) {
          throw new UncheckedIOException(e);
        }
      }
    }
  }

  /** The head, and the body of two bytes. */
  private static String readRequest(InputStream in) throws IOException {
    StringBuilder request = new StringBuilder();
    while (request.indexOf("\r\n\r\n{}") < 0) {
      int next = in.read();
      if (next < 0) {
        throw new IOException("the client has gone");
      }
      request.append((char) next);
    }
    return request.toString();
  }

  static void write(Socket socket, String text) throws IOException {
    OutputStream out = socket.getOutputStream();
    out.write(text.getBytes(ISO_8859_1));
    out.flush();
  }

  /** Until the client goes away. */
  static void awaitEnd(Socket socket) throws IOException {
    while (socket.getInputStream().read() >= 0) {
      // The client says no more.
    }
  }

  String url() {
    return "http://localhost:" + listener.getLocalPort() + "/v1/introspect";
  }

  @Override
  public void close() throws IOException {
    listener.close();
    threads.shutdownNow();
  }
}
