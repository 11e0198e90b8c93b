package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.util.Objects.requireNonNull;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.NoRouteToHostException;
import java.net.Proxy;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.security.cert.CertPathBuilderException;
import java.security.cert.CertificateException;
import java.security.cert.CertificateExpiredException;
import java.util.Locale;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSocketFactory;
import org.jspecify.annotations.Nullable;

/**
 * One HTTP/1.1 request on a connection of its own, and its bounded answer. The JDK's client would be the better choice
 * but for its start, which takes longer than everything else here.
 *
 * <p>The exchange runs on its own thread, so that its time is up when it is up, whatever it hangs in: the resolver, a
 * server that reads nothing, or one that sends a byte now and then.
 */
final class HttpExchange extends Thread {
  private static final int MAX_HEAD = 64 * 1024;
  private static final int MAX_BODY = 1024 * 1024;
  private static final int MAX_INTERIM_ANSWERS = 5;

  /** Begins what runtime-mtls says of a certificate for another name. */
  private static final String MISMATCH = "the server's certificate is not for";

  /** The reason where a server closes too early. */
  static final String CLOSED = "the connection was closed before the end of the answer";

  /** The exchange has failed; the message completes "the call failed: …" and names no host. */
  static final class FailedException extends Exception {
    private static final long serialVersionUID = 1L;

    FailedException(String message) {
      super(message, null, false, false);
    }
  }

  /**
   * A whole answer; it has a body with status 200, and with 404, which a procedure that is not there is told from by
   * its body.
   */
  static final class Answer {
    final int status;
    final @Nullable String contentType;
    final byte[] body;

    private Answer(int status, @Nullable String contentType, byte[] body) {
      this.status = status;
      this.contentType = contentType;
      this.body = body;
    }
  }

  private final @Nullable ServiceUrl url;
  private final @Nullable SSLSocketFactory tls;
  private final byte[] request;
  private final @Nullable InputStream answerOfCurl;
  private final long end;

  private volatile @Nullable Socket socket;
  private volatile @Nullable Answer answer;
  private volatile @Nullable Throwable failure;

  // Of the exchange's own thread.
  private @Nullable Socket reading;
  private byte[] buffer = new byte[8192];
  private int begin;
  private int limit;

  private HttpExchange(
      @Nullable ServiceUrl url,
      @Nullable SSLSocketFactory tls,
      byte[] request,
      @Nullable InputStream answerOfCurl,
      long timeoutNanos) {
    super("exchange");
    this.url = url;
    this.tls = tls;
    this.request = request;
    this.answerOfCurl = answerOfCurl;
    end = System.nanoTime() + timeoutNanos;
    setDaemon(true);
  }

  /**
   * Sends a request and waits for all of its answer.
   *
   * @param tls null for plain http
   * @param request with its head
   */
  static Answer send(
      ServiceUrl url, @Nullable SSLSocketFactory tls, byte[] request, long timeoutNanos)
      throws FailedException {
    return new HttpExchange(url, tls, request, null, timeoutNanos).await(timeoutNanos);
  }

  /**
   * Reads all of an answer to a request that somebody else has sent.
   *
   * @param in is left open
   */
  static Answer read(InputStream in, long timeoutNanos) throws FailedException {
    return new HttpExchange(null, null, new byte[0], in, timeoutNanos).await(timeoutNanos);
  }

  private Answer await(long timeoutNanos) throws FailedException {
    start();
    try {
      join(Math.max(1, timeoutNanos / 1_000_000));
    } catch (InterruptedException e) {
      abandon();
      Thread.currentThread().interrupt();
      throw new FailedException("interrupted");
    }
    Answer whole = answer;
    if (whole != null) {
      return whole;
    }
    Throwable cause = failure;
    abandon();
    throw new FailedException(cause == null ? "no whole answer in time" : reason(cause));
  }

  private void abandon() {
    Socket open = socket;
    if (open != null) {
      try {
        open.close();
      } catch (IOException e) {
        // It is given up anyhow.
      }
    }
  }

  @Override
  public void run() {
    try {
      InputStream in = answerOfCurl;
      answer = in != null ? answer(in) : exchange(requireNonNull(url));
    } catch (Throwable e) { // also an OutOfMemoryError must reach the waiting thread
      failure = e;
    }
  }

  private Answer exchange(ServiceUrl url) throws IOException, FailedException {
    try (Socket plain = connect(url)) {
      if (tls == null) {
        return exchange(plain);
      }
      try (Socket secure = tls.createSocket(plain, url.host(), url.port(), true)) {
        return exchange(secure);
      }
    }
  }

  private Socket connect(ServiceUrl url) throws IOException, FailedException {
    InetAddress[] addresses = InetAddress.getAllByName(url.host());
    for (int i = 0; ; i++) {
      if (!url.tls() && !url.plainAnywhere() && !addresses[i].isLoopbackAddress()) {
        throw new FailedException("the host of a plain http URL is not this machine");
      }
      Socket candidate = new Socket(Proxy.NO_PROXY);
      socket = candidate;
      try {
        candidate.setTcpNoDelay(true);
        int share = Math.max(1, remainingMillis() / (addresses.length - i));
        candidate.connect(new InetSocketAddress(addresses[i], url.port()), share);
        return candidate;
      } catch (IOException e) {
        candidate.close();
        if (i == addresses.length - 1) {
          throw e;
        }
      }
    }
  }

  private int remainingMillis() throws SocketTimeoutException {
    long remaining = (end - System.nanoTime()) / 1_000_000;
    if (remaining <= 0) {
      throw new SocketTimeoutException();
    }
    return (int) Math.min(remaining, Integer.MAX_VALUE);
  }

  private Answer exchange(Socket connection) throws IOException, FailedException {
    reading = connection;
    connection.setSoTimeout(remainingMillis());
    connection.getOutputStream().write(request);
    connection.getOutputStream().flush();
    return answer(connection.getInputStream());
  }

  private Answer answer(InputStream in) throws IOException, FailedException {
    for (int interim = 0; interim <= MAX_INTERIM_ANSWERS; interim++) {
      Head head = head(in);
      if (head.status >= 200) {
        // Nobody reads the body of any other refusal, which may be endless.
        boolean read = head.status == 200 || head.status == 404;
        byte[] body = read ? body(in, head) : new byte[0];
        return new Answer(head.status, head.contentType, body);
      }
    }
    throw new FailedException("the answer never begins");
  }

  /** The fields of the head that count. */
  private static final class Head {
    int status;

    @Nullable
    String contentType;

    long length = -1;
    boolean chunked;

    void field(String line) throws FailedException {
      int colon = line.indexOf(':');
      if (colon < 1 || line.charAt(colon - 1) == ' ' || line.charAt(0) == ' ') {
        throw new FailedException("the answer is no HTTP");
      }
      String value = GoText.trim(line.substring(colon + 1));
      switch (line.substring(0, colon).toLowerCase(Locale.ROOT)) {
        case "content-type" ->
          contentType = contentType == null ? value : contentType + ", " + value;
        case "content-length" -> {
          long parsed = length(value);
          if (length >= 0 && length != parsed) {
            throw new FailedException("the answer has two lengths");
          }
          length = parsed;
        }
        case "transfer-encoding" -> {
          if (chunked || !value.equalsIgnoreCase("chunked")) {
            throw new FailedException("the answer has an unknown transfer encoding");
          }
          chunked = true;
        }
        case "content-encoding" -> {
          if (!value.equalsIgnoreCase("identity")) {
            throw new FailedException("the answer is compressed, which was not asked for");
          }
        }
        default -> {}
      }
    }

    private static long length(String value) throws FailedException {
      long parsed = 0;
      for (int i = 0; i < value.length(); i++) {
        int digit = value.charAt(i) - '0';
        if (digit < 0 || digit > 9 || i > 17) {
          throw new FailedException("the answer has no valid length");
        }
        parsed = parsed * 10 + digit;
      }
      if (value.isEmpty()) {
        throw new FailedException("the answer has no valid length");
      }
      return parsed;
    }
  }

  private Head head(InputStream in) throws IOException, FailedException {
    Head head = new Head();
    int room = MAX_HEAD;
    String status = line(in, room);
    if (!(status.startsWith("HTTP/1.1 ") || status.startsWith("HTTP/1.0 "))
        || status.length() < 12
        || (status.length() > 12 && status.charAt(12) != ' ')) {
      throw new FailedException("the answer is no HTTP");
    }
    for (int i = 9; i < 12; i++) {
      int digit = status.charAt(i) - '0';
      if (digit < 0 || digit > 9) {
        throw new FailedException("the answer is no HTTP");
      }
      head.status = head.status * 10 + digit;
    }
    room -= status.length();
    while (true) {
      String line = line(in, room);
      if (line.isEmpty()) {
        break;
      }
      head.field(line);
      room -= line.length() + 2;
    }
    if (head.chunked && head.length >= 0) {
      throw new FailedException("the answer has two lengths");
    }
    return head;
  }

  private byte[] body(InputStream in, Head head) throws IOException, FailedException {
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    if (head.chunked) {
      while (true) {
        int size = chunkSize(line(in, 1024));
        if (size == 0) {
          break; // what may follow is of no interest, as the connection is not used again
        }
        copy(in, size, body);
        if (!line(in, 2).isEmpty()) {
          throw new FailedException("the answer is no HTTP");
        }
      }
    } else if (head.length >= 0) {
      copy(in, head.length, body);
    } else {
      while (begin < limit || fill(in)) {
        copy(in, limit - begin, body);
      }
    }
    return body.toByteArray();
  }

  private static int chunkSize(String line) throws FailedException {
    int semicolon = line.indexOf(';');
    String hex = semicolon < 0 ? line : GoText.trim(line.substring(0, semicolon));
    int size = 0;
    for (int i = 0; i < hex.length(); i++) {
      int digit = Character.digit(hex.charAt(i), 16);
      if (digit < 0 || hex.charAt(i) >= 0x80 || i > 6) {
        throw new FailedException("the answer is no HTTP, or too long");
      }
      size = (size << 4) | digit;
    }
    if (hex.isEmpty()) {
      throw new FailedException("the answer is no HTTP");
    }
    return size;
  }

  private void copy(InputStream in, long count, ByteArrayOutputStream body)
      throws IOException, FailedException {
    if (count > MAX_BODY - body.size()) {
      throw new FailedException("the answer is longer than " + MAX_BODY + " bytes");
    }
    for (long left = count; left > 0; ) {
      if (begin == limit && !fill(in)) {
        throw new EOFException();
      }
      int part = (int) Math.min(left, limit - begin);
      body.write(buffer, begin, part);
      begin += part;
      left -= part;
    }
  }

  /** A line without its end, in which a bare line feed counts as well. */
  private String line(InputStream in, int room) throws IOException, FailedException {
    StringBuilder line = new StringBuilder();
    while (true) {
      if (begin == limit && !fill(in)) {
        throw new EOFException();
      }
      char c = (char) (buffer[begin++] & 0xff);
      if (c == '\n') {
        int last = line.length() - 1;
        if (last >= 0 && line.charAt(last) == '\r') {
          line.setLength(last);
        }
        return line.toString();
      }
      if (line.length() >= room) {
        throw new FailedException("the answer's head is too long");
      }
      line.append(c);
    }
  }

  private boolean fill(InputStream in) throws IOException {
    Socket connection = reading;
    if (connection != null) {
      connection.setSoTimeout(remainingMillis());
    }
    begin = 0;
    limit = Math.max(0, in.read(buffer));
    return limit > 0;
  }

  /** In our own words: those of the JDK name the host, and would go to a model. */
  private static String reason(Throwable failure) {
    if (failure instanceof FailedException) {
      return String.valueOf(failure.getMessage());
    }
    if (failure instanceof OutOfMemoryError) {
      return "out of memory";
    }
    if (failure instanceof SSLException) {
      return tlsReason(failure);
    }
    if (failure instanceof UnknownHostException) {
      return "the host's name cannot be resolved";
    }
    if (failure instanceof SocketTimeoutException) {
      return "no whole answer in time";
    }
    if (failure instanceof ConnectException) {
      return "connection refused";
    }
    if (failure instanceof NoRouteToHostException) {
      return "the host cannot be reached";
    }
    if (failure instanceof EOFException) {
      return CLOSED;
    }
    return "the connection failed (" + failure.getClass().getSimpleName() + ")";
  }

  private static String tlsReason(Throwable failure) {
    Throwable root = failure;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    if (root instanceof CertificateExpiredException) {
      return "the server's certificate has expired";
    }
    if (root instanceof CertPathBuilderException) {
      return "the server's certificate is not of a trusted authority";
    }
    if (root instanceof CertificateException) {
      boolean name = String.valueOf(root.getMessage()).startsWith(MISMATCH);
      return "the server's certificate is " + (name ? "for another name" : "not valid");
    }
    return "no TLS connection (" + root.getClass().getSimpleName() + ")";
  }

  /** The bytes of a head or of a token. */
  static byte[] ascii(String text) {
    return text.getBytes(ISO_8859_1);
  }
}
