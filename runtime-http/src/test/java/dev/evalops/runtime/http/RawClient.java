package dev.evalops.runtime.http;

import java.io.ByteArrayOutputStream;
import java.io.Closeable;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.SocketException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import javax.net.ssl.SSLException;

/** A client that sends what it is told, byte by byte, and reads what really comes back. */
final class RawClient implements Closeable {
  private static final int READ_MILLIS = 20_000;

  record Response(int status, List<String> headers, String body) {
    Optional<String> header(String name) {
      String prefix = name.toLowerCase(Locale.ROOT) + ": ";
      return headers.stream()
          .filter(h -> h.toLowerCase(Locale.ROOT).startsWith(prefix))
          .map(h -> h.substring(prefix.length()))
          .findFirst();
    }
  }

  private final Socket socket;
  private final InputStream in;

  RawClient(HttpService service) throws IOException {
    this(new Socket("localhost", service.port()));
  }

  RawClient(Socket socket) throws IOException {
    this.socket = socket;
    socket.setSoTimeout(READ_MILLIS);
    socket.setTcpNoDelay(true);
    in = socket.getInputStream();
  }

  Socket socket() {
    return socket;
  }

  RawClient send(String text) throws IOException {
    socket.getOutputStream().write(text.getBytes(StandardCharsets.ISO_8859_1));
    socket.getOutputStream().flush();
    return this;
  }

  Response get(String path) throws IOException {
    return send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n").read();
  }

  Response post(String path, String body, String... headers) throws IOException {
    StringBuilder text = new StringBuilder("POST " + path + " HTTP/1.1\r\nHost: x\r\n");
    for (String header : headers) {
      text.append(header).append("\r\n");
    }
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    send(text + "Content-Length: " + bytes.length + "\r\n\r\n");
    socket.getOutputStream().write(bytes);
    return read();
  }

  /** Reads one response; an EOFException says that it is not whole. */
  Response read() throws IOException {
    return read(false);
  }

  Response readHead() throws IOException {
    return read(true);
  }

  private Response read(boolean head) throws IOException {
    String statusLine = line();
    int status = Integer.parseInt(statusLine.substring(9, 12));
    List<String> headers = new ArrayList<>();
    for (String h = line(); !h.isEmpty(); h = line()) {
      headers.add(h);
    }
    Response response = new Response(status, headers, "");
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    if (head || status == 204 || status == 304 || status < 200) {
      return response;
    }
    if (response.header("Transfer-Encoding").isPresent()) {
      for (int n = Integer.parseInt(line(), 16); n > 0; n = Integer.parseInt(line(), 16)) {
        body.write(exactly(n));
        line();
      }
      line();
    } else if (response.header("Content-Length").isPresent()) {
      body.write(exactly(Integer.parseInt(response.header("Content-Length").get())));
    } else {
      in.transferTo(body);
    }
    return new Response(status, headers, body.toString(StandardCharsets.UTF_8));
  }

  private byte[] exactly(int n) throws IOException {
    byte[] bytes = in.readNBytes(n);
    if (bytes.length < n) {
      throw new EOFException("body cut after " + bytes.length + " of " + n + " bytes");
    }
    return bytes;
  }

  private String line() throws IOException {
    StringBuilder line = new StringBuilder();
    while (true) {
      int c = in.read();
      if (c < 0) {
        throw new EOFException("closed after: " + line);
      }
      if (c == '\n') {
        return line.toString().stripTrailing();
      }
      line.append((char) c);
    }
  }

  /** Sends one more byte, if the server still listens. */
  void dripUnlessCut() {
    try {
      send("x");
    } catch (IOException e) {
      // It does not.
    }
  }

  /** Reads until the server ends the connection; a SocketTimeoutException says that it does not. */
  void drainUntilCut() throws IOException {
    try {
      in.transferTo(OutputStream.nullOutputStream());
    } catch (SocketException | SSLException e) {
      // Reset: also an end.
    }
  }

  @Override
  public void close() throws IOException {
    socket.close();
  }
}
