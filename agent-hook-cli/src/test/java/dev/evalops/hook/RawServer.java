package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;

/** Answers with bytes that no HTTP server would send. */
final class RawServer implements AutoCloseable {
  /** What a connection gets after its request. */
  interface Script {
    void answer(OutputStream out) throws IOException, InterruptedException;
  }

  private final ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final List<Socket> connections = new CopyOnWriteArrayList<>();
  private final List<Thread> threads = new CopyOnWriteArrayList<>();
  final AtomicInteger accepted = new AtomicInteger();

  RawServer(Script script) throws IOException {
    start(() -> {
      while (true) {
        Socket connection = server.accept();
        connections.add(connection);
        accepted.incrementAndGet();
        start(() -> {
          try (connection) {
            readRequest(connection.getInputStream());
            script.answer(connection.getOutputStream());
          }
        });
      }
    });
  }

  /** The bytes as they stand. */
  static Script text(String text) {
    return out -> out.write(text.getBytes(ISO_8859_1));
  }

  /** The head, and a part for ever with a pause in between. */
  static Script endless(String head, String part, long pauseMillis) {
    return out -> {
      out.write(head.getBytes(ISO_8859_1));
      while (true) {
        out.write(part.getBytes(ISO_8859_1));
        out.flush();
        Thread.sleep(pauseMillis); // the drip of the server, not a wait of the test
      }
    };
  }

  private interface Body {
    void run() throws IOException, InterruptedException;
  }

  private void start(Body body) {
    Thread thread = new Thread(() -> {
      try {
        body.run();
      } catch (IOException | InterruptedException e) {
        // The other side, or the test, is done.
      }
    });
    thread.setDaemon(true);
    threads.add(thread);
    thread.start();
  }

  private static void readRequest(InputStream in) throws IOException {
    StringBuilder head = new StringBuilder();
    while (head.indexOf("\r\n\r\n") < 0) {
      int c = in.read();
      if (c < 0) {
        return;
      }
      head.append((char) c);
    }
    String length = head.substring(head.indexOf("Content-Length: ") + 16);
    in.skipNBytes(Integer.parseInt(length.substring(0, length.indexOf("\r"))));
  }

  String url() {
    return "http://127.0.0.1:" + server.getLocalPort();
  }

  @Override
  public void close() throws IOException {
    server.close();
    for (Thread thread : threads) {
      thread.interrupt();
    }
    for (Socket connection : connections) {
      connection.close();
    }
  }
}
