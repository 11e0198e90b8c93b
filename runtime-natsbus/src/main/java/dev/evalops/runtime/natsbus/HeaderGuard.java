package dev.evalops.runtime.natsbus;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import io.nats.client.impl.Headers;
import io.nats.client.impl.SocketDataPortWithWriteTimeout;
import io.nats.client.support.IncomingHeadersProcessor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.AbstractMap;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Stands between the socket and the client's parser, and replaces header blocks that the parser cannot read by one that
 * it can, which carries the bytes of the other. Everything else passes unchanged.
 *
 * <p>The client parses headers on the one thread that reads the connection. A block that it does not like (a value with
 * UTF-8, which Go publishes and the server takes; a line without a colon; another version) is an unchecked exception
 * there: the thread ends, the connection still counts as connected, and all consumers and publishers of the process
 * stand still until pings time out; then the message is delivered again. The client has no option against that. Here is
 * the only place before its parser where a message can be changed, and it serves every subscription and reply of the
 * connection. Which blocks are bad is decided by that same parser, so that there are no opinions to keep in step.
 *
 * <p>What cannot be understood as NATS at all is passed on as it is: the client ends such a connection itself and makes
 * a new one.
 *
 * <p>Not thread-safe: it belongs to the thread that reads.
 */
final class HeaderGuard {
  private static final String RAW = "malformed-headers";
  private static final String REASON = "malformed-headers-reason";
  private static final byte[] BEGIN = "NATS/1.0\r\n".getBytes(ISO_8859_1);
  private static final int MAX_LINE = 1 << 20;

  private enum State {
    LINE,
    HEADERS,
    BODY,
    BLIND
  }

  private final Bytes out = new Bytes();
  private final Bytes line = new Bytes();
  private byte[] headers = {};
  private int headersRead;
  private long bodyLeft;
  private @Nullable Control control;
  private State state = State.LINE;

  /** A connection of the client with such a guard. Public for the client, which makes it by its name. */
  public static final class Port extends SocketDataPortWithWriteTimeout {
    private final HeaderGuard guard = new HeaderGuard();

    /** Called by the client. */
    public Port() {}

    @Override
    public int read(byte[] dst, int off, int len) throws IOException {
      int taken = guard.take(dst, off, len);
      while (taken == 0) {
        int read = super.read(dst, off, len);
        if (read <= 0) {
          return read;
        }
        guard.put(dst, off, read);
        taken = guard.take(dst, off, len);
      }
      return taken;
    }
  }

  /** Bytes that are appended at one end and taken at the other. */
  private static final class Bytes extends ByteArrayOutputStream {
    private int start;

    int take(byte[] dst, int off, int len) {
      int taken = Math.min(len, count - start);
      System.arraycopy(buf, start, dst, off, taken);
      start += taken;
      if (start == count) {
        start = 0;
        count = 0;
      }
      return taken;
    }

    @Nullable
    Control control(boolean hasHeaders) {
      return Control.parse(buf, count, hasHeaders);
    }

    /** Appends the first bytes of these. */
    void write(Bytes bytes, int length) {
      write(bytes.buf, 0, length);
    }

    boolean startsWith(String upperCase) {
      if (count < upperCase.length()) {
        return false;
      }
      for (int i = 0; i < upperCase.length(); i++) {
        if ((buf[i] & ~0x20) != (upperCase.charAt(i) & ~0x20)) {
          return false;
        }
      }
      return true;
    }
  }

  /** The line before a message: how much of it is before its lengths, and these. */
  private record Control(int begin, boolean isOfStream, int headers, int total) {
    private static final int MAX_WORDS = 6;
    private static final byte[] OF_STREAM = "$JS.ACK.".getBytes(ISO_8859_1);

    /** Null if it is none. */
    static @Nullable Control parse(byte[] line, int length, boolean hasHeaders) {
      int[] begins = new int[MAX_WORDS];
      int[] ends = new int[MAX_WORDS];
      int words = 0;
      int at = 0;
      while (true) {
        while (at < length && isBlank(line[at])) {
          at++;
        }
        if (at == length) {
          break;
        }
        if (words == MAX_WORDS) {
          return null;
        }
        begins[words] = at;
        while (at < length && !isBlank(line[at])) {
          at++;
        }
        ends[words++] = at;
      }
      int first = words - (hasHeaders ? 2 : 1);
      if (first < 3 || first > 4) {
        return null;
      }
      int total = number(line, begins[words - 1], ends[words - 1]);
      int headers = hasHeaders ? number(line, begins[first], ends[first]) : 0;
      if (headers < 0 || total < headers) {
        return null;
      }
      int reply = begins[3];
      boolean isOfStream = first == 4
          && Arrays.equals(
              line,
              reply,
              Math.min(reply + OF_STREAM.length, length),
              OF_STREAM,
              0,
              OF_STREAM.length);
      return new Control(ends[first - 1], isOfStream, headers, total);
    }

    private static boolean isBlank(byte b) {
      return b == ' ' || b == '\t' || b == '\r' || b == '\n';
    }

    /** Returns -1 if it is none, or too large. */
    private static int number(byte[] line, int begin, int end) {
      if (end - begin > 9) {
        return -1;
      }
      int number = 0;
      for (int i = begin; i < end; i++) {
        int digit = line[i] - '0';
        if (digit < 0 || digit > 9) {
          return -1;
        }
        number = 10 * number + digit;
      }
      return number;
    }
  }

  /** Takes what was read. */
  void put(byte[] bytes, int off, int len) {
    int at = off;
    int end = off + len;
    while (at < end) {
      switch (state) {
        case LINE -> at = readLine(bytes, at, end);
        case HEADERS -> {
          int part = Math.min(end - at, headers.length - headersRead);
          System.arraycopy(bytes, at, headers, headersRead, part);
          headersRead += part;
          at += part;
        }
        case BODY -> {
          int part = (int) Math.min(end - at, bodyLeft);
          out.write(bytes, at, part);
          bodyLeft -= part;
          at += part;
          if (bodyLeft == 0) {
            state = State.LINE;
          }
        }
        case BLIND -> {
          out.write(bytes, at, end - at);
          at = end;
        }
      }
      if (state == State.HEADERS && headersRead == headers.length) {
        passHeaders();
      }
    }
  }

  /** Gives what may be parsed; returns how much, perhaps nothing. */
  int take(byte[] dst, int off, int len) {
    return out.take(dst, off, len);
  }

  private int readLine(byte[] bytes, int at, int end) {
    int lineEnd = at;
    while (lineEnd < end && bytes[lineEnd] != '\n') {
      lineEnd++;
    }
    boolean complete = lineEnd < end;
    int next = complete ? lineEnd + 1 : end;
    line.write(bytes, at, next - at);
    if (complete) {
      begin();
    } else if (line.size() > MAX_LINE) {
      passBlindly();
    }
    return next;
  }

  private void begin() {
    boolean hasHeaders = line.startsWith("HMSG ") || line.startsWith("HMSG\t");
    if (!hasHeaders && !line.startsWith("MSG ") && !line.startsWith("MSG\t")) {
      passLine();
      return;
    }
    control = line.control(hasHeaders);
    if (control == null) {
      passBlindly();
    } else if (hasHeaders) {
      headers = new byte[control.headers];
      headersRead = 0;
      state = State.HEADERS;
    } else {
      passLine();
      beginBody(control.total);
    }
  }

  private void beginBody(long length) {
    bodyLeft = length + 2; // CR LF
    state = State.BODY;
  }

  private void passLine() {
    out.write(line, line.size());
    line.reset();
  }

  private void passBlindly() {
    passLine();
    state = State.BLIND;
  }

  private void passHeaders() {
    Control message = control;
    if (message == null) {
      throw new IllegalStateException("headers without a message");
    }
    int body = message.total - message.headers;
    String problem = problem(headers, message.isOfStream);
    if (problem == null) {
      passLine();
      out.writeBytes(headers);
    } else {
      byte[] replaced = ("NATS/1.0\r\n" + RAW + ": " + Base64.getEncoder().encodeToString(headers)
              + "\r\n" + REASON + ": " + problem.replaceAll("[^ -~]", "?") + "\r\n\r\n")
          .getBytes(ISO_8859_1);
      long total = (long) replaced.length + body;
      out.write(line, message.begin);
      line.reset();
      out.writeBytes((" " + replaced.length + " " + total + "\r\n").getBytes(ISO_8859_1));
      out.writeBytes(replaced);
    }
    headers = new byte[0];
    beginBody(body);
  }

  /** What the client's parser has against a header block; null if nothing. */
  static @Nullable String problem(byte[] block, boolean isOfStream) {
    if (isPlain(block)) {
      return null;
    }
    try {
      IncomingHeadersProcessor parsed = new IncomingHeadersProcessor(block);
      if (isOfStream && parsed.getStatus() != null) {
        // The client would take the event for a message of the server.
        return "a status where an event has headers";
      }
      Headers read = parsed.getHeaders();
      return read != null && (read.containsKey(RAW) || read.containsKey(REASON))
          ? "a header of this name is reserved"
          : null;
    } catch (IllegalArgumentException malformed) {
      return String.valueOf(malformed.getMessage());
    } catch (RuntimeException incomplete) { // it reads beyond the end
      return "Incomplete header";
    }
  }

  /**
   * Whether a block is one as publishers usually write them, which the parser is known to read, so that most blocks are
   * not parsed twice: no status, names of letters, digits and hyphens that do not begin as {@link #RAW} does, values of
   * printable ASCII, with a space in front (Go) or without (Java).
   */
  static boolean isPlain(byte[] block) {
    int at = BEGIN.length;
    int end = block.length - 2;
    if (end <= at
        || !Arrays.equals(BEGIN, 0, at, block, 0, at)
        || block[end] != '\r'
        || block[end + 1] != '\n') {
      return false;
    }
    while (at < end) {
      int name = at;
      while (isOfName(block[at])) { // which the end is not
        at++;
      }
      if (at == name || block[name] == 'm' || block[at] != ':') {
        return false;
      }
      at += block[at + 1] == ' ' ? 2 : 1;
      int value = at;
      while (block[at] >= ' ' && block[at] < 127) {
        at++;
      }
      if (at == value || block[at] != '\r' || block[at + 1] != '\n') {
        return false;
      }
      at += 2;
    }
    return at == end;
  }

  private static boolean isOfName(byte b) {
    return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-';
  }

  /** Why the headers of a message were replaced; null if they are its own. */
  static @Nullable String reason(@Nullable Headers headers) {
    return headers == null ? null : headers.getFirst(REASON);
  }

  /**
   * Returns the headers of a message.
   *
   * @throws IllegalArgumentException if they were replaced; the message says why
   */
  static Map<String, List<String>> read(@Nullable Headers headers) {
    String malformed = reason(headers);
    if (malformed != null) {
      throw new IllegalArgumentException("headers: " + malformed);
    }
    return headers == null ? Map.of() : new View(headers);
  }

  /** Headers as a map, without a copy of them for each message. */
  private static final class View extends AbstractMap<String, List<String>> {
    private final Headers headers;

    View(Headers headers) {
      this.headers = headers;
    }

    @Override
    public @Nullable List<String> get(@Nullable Object name) {
      return name instanceof String key ? headers.get(key) : null;
    }

    @Override
    public Set<Map.Entry<String, List<String>>> entrySet() {
      return headers.entrySet();
    }
  }

  /** The header block that was replaced, in Base64; empty if none was. */
  static String raw(@Nullable Headers headers) {
    String raw = headers == null ? null : headers.getFirst(RAW);
    return raw == null ? "" : raw;
  }
}
