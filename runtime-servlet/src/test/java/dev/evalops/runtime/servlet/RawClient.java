package dev.evalops.runtime.servlet;

import java.io.ByteArrayOutputStream;
import java.io.Closeable;
import java.io.EOFException;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

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
  private final Recorded in;

  RawClient(Socket socket) throws IOException {
    this.socket = socket;
    socket.setSoTimeout(READ_MILLIS);
    socket.setTcpNoDelay(true);
    in = new Recorded(socket.getInputStream());
  }

  RawClient send(String text) throws IOException {
    socket.getOutputStream().write(text.getBytes(StandardCharsets.ISO_8859_1));
    socket.getOutputStream().flush();
    return this;
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
    return new Response(status, headers, body.toString(StandardCharsets.ISO_8859_1));
  }

  /** Reads one response, and gives its body as it is. */
  byte[] readBytes() throws IOException {
    return read().body().getBytes(StandardCharsets.ISO_8859_1);
  }

  /** Reads until this has come. */
  void readUntil(String text) throws IOException {
    while (!received().contains(text)) {
      if (in.read() < 0) {
        throw new EOFException("closed after: " + received());
      }
    }
  }

  /** Forgets what has been read so far. */
  void forget() {
    in.all.reset();
  }

  /** All that has been read so far. */
  String received() {
    return in.all.toString(StandardCharsets.ISO_8859_1);
  }

  private static final class Recorded extends FilterInputStream {
    private final ByteArrayOutputStream all = new ByteArrayOutputStream();

    Recorded(InputStream in) {
      super(in);
    }

    @Override
    public int read() throws IOException {
      int b = super.read();
      if (b >= 0) {
        all.write(b);
      }
      return b;
    }

    @Override
    public int read(byte[] b, int off, int len) throws IOException {
      int n = super.read(b, off, len);
      if (n > 0) {
        all.write(b, off, n);
      }
      return n;
    }
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

  @Override
  public void close() throws IOException {
    socket.close();
  }
}
