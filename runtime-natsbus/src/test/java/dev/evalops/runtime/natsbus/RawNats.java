package dev.evalops.runtime.natsbus;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;

/** Publishes what no client of ours would: any bytes as headers. */
final class RawNats implements AutoCloseable {
  private final Socket socket;
  private final InputStream in;
  private final OutputStream out;

  RawNats(String url) throws IOException {
    URI uri = URI.create(url);
    socket = new Socket(uri.getHost(), uri.getPort());
    socket.setSoTimeout(30_000);
    in = new BufferedInputStream(socket.getInputStream());
    out = socket.getOutputStream();
    line(); // INFO
    out.write("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n"
        .getBytes(ISO_8859_1));
    flush();
  }

  /** Publishes; the server has it after {@link #flush}. */
  void publish(String subject, byte[] headers, byte[] body) throws IOException {
    ByteArrayOutputStream message = new ByteArrayOutputStream();
    message.writeBytes(
        ("HPUB " + subject + " " + headers.length + " " + (headers.length + body.length) + "\r\n")
            .getBytes(ISO_8859_1));
    message.writeBytes(headers);
    message.writeBytes(body);
    message.writeBytes("\r\n".getBytes(ISO_8859_1));
    out.write(message.toByteArray());
  }

  /** Waits until the server has seen everything. */
  void flush() throws IOException {
    out.write("PING\r\n".getBytes(ISO_8859_1));
    String answer = line();
    while (!answer.equals("PONG")) {
      if (answer.startsWith("-ERR")) {
        throw new IOException(answer);
      }
      if (answer.equals("PING")) {
        out.write("PONG\r\n".getBytes(ISO_8859_1));
      }
      answer = line();
    }
  }

  private String line() throws IOException {
    StringBuilder line = new StringBuilder();
    for (int each = in.read(); each != '\n'; each = in.read()) {
      if (each < 0) {
        throw new IOException("the server has closed the connection");
      }
      line.append((char) each);
    }
    return line.toString().strip();
  }

  @Override
  public void close() throws IOException {
    socket.close();
  }
}
