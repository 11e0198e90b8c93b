package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.Serial;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.eclipse.jetty.http.HttpFields;
import org.eclipse.jetty.http.HttpURI;
import org.eclipse.jetty.http.HttpVersion;
import org.eclipse.jetty.http.MetaData;
import org.eclipse.jetty.http2.ErrorCode;
import org.eclipse.jetty.http2.api.Session;
import org.eclipse.jetty.http2.api.Stream;
import org.eclipse.jetty.http2.client.HTTP2Client;
import org.eclipse.jetty.http2.frames.DataFrame;
import org.eclipse.jetty.http2.frames.HeadersFrame;
import org.eclipse.jetty.http2.frames.PingFrame;
import org.eclipse.jetty.http2.frames.ResetFrame;
import org.eclipse.jetty.util.Callback;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What HTTP/2 has beside the rest: trailers, and streams that the client resets. */
class Http2Test {
  @TempDir
  static Path folder;

  private static final BlockingQueue<String> SEEN = new LinkedBlockingQueue<>();
  private static final Semaphore MAY_READ = new Semaphore(0);

  private final HTTP2Client client = new HTTP2Client();

  static final class Streams extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      switch (request.getPathInfo()) {
        case "/trailers" -> {
          byte[] body = request.getInputStream().readAllBytes();
          Map<String, String> trailers = new TreeMap<>(request.getTrailerFields());
          response.setTrailerFields(() -> Map.of("x-checksum", "c" + body.length));
          response.getOutputStream().print(trailers.toString());
        }
        case "/endless" -> {
          SEEN.add("started");
          try {
            writeUntilItFails(response);
          } catch (IOException e) {
            SEEN.add("stopped");
            throw e;
          }
        }
        case "/async-endless", "/held-async-endless" -> {
          AsyncContext async = request.startAsync();
          async.setTimeout(0);
          Semaphore failed = new Semaphore(0);
          Thread.ofVirtual().start(() -> {
            try {
              SEEN.add("started");
              writeUntilItFails(response);
            } catch (IOException e) {
              SEEN.add("stopped"); // by the container, too
              failed.release();
            }
          });
          if (request.getPathInfo().startsWith("/held")) {
            failed.acquireUninterruptibly();
          }
        }
        case "/swallowed" -> {
          request.startAsync().setTimeout(0);
          SEEN.add("started");
          try {
            writeUntilItFails(response);
          } catch (IOException e) {
            SEEN.add("stopped"); // by the container, too
          }
        }
        case "/upload", "/late-upload" -> {
          SEEN.add("started");
          try {
            if (request.getPathInfo().equals("/late-upload")) {
              MAY_READ.acquireUninterruptibly();
            }
            response.getOutputStream().print(request.getInputStream().readAllBytes().length);
          } catch (IOException | RuntimeException e) {
            SEEN.add("stopped");
            throw e;
          }
        }
        default -> response.getOutputStream().print("fine");
      }
    }
  }

  private static void writeUntilItFails(HttpServletResponse response) throws IOException {
    while (true) {
      response.getOutputStream().print("data");
      response.flushBuffer();
    }
  }

  private static void addServlet(ServletContext context) {
    ServletRegistration.Dynamic streams = context.addServlet("streams", new Streams());
    streams.setAsyncSupported(true);
    streams.addMapping("/s/*", "/");
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    HttpHandler handler = watched.routes().handle("/s", Servlets.next()).handler();
    return container.equals("tomcat")
        ? watched.tomcat(folder, handler, context -> {}, Http2Test::addServlet)
        : watched.jetty(folder, handler, context -> {}, http -> {}, Http2Test::addServlet);
  }

  @BeforeEach
  void startClient() throws Exception {
    SEEN.clear();
    client.start();
  }

  @AfterEach
  void stopClient() throws Exception {
    client.stop();
  }

  private Session connect(Watched watched) throws Exception {
    return client
        .connect(new InetSocketAddress("localhost", watched.port()), new Session.Listener() {})
        .get(30, TimeUnit.SECONDS);
  }

  private static HeadersFrame head(Watched watched, String method, String path, boolean last) {
    HttpFields.Mutable fields = HttpFields.build();
    if (!last) {
      fields.put("Content-Type", "application/octet-stream");
      if (path.endsWith("upload")) {
        fields.put("Content-Length", "10");
      }
    }
    return new HeadersFrame(
        new MetaData.Request(
            method,
            HttpURI.from("http://localhost:" + watched.port() + path),
            HttpVersion.HTTP_2,
            fields),
        null,
        last);
  }

  private static final class Received implements Stream.Listener {
    private final BlockingQueue<String> all = new LinkedBlockingQueue<>();

    @Nullable
    String next() throws InterruptedException {
      return all.poll(30, TimeUnit.SECONDS);
    }

    @Override
    public void onHeaders(Stream stream, HeadersFrame frame) {
      all.add(
          frame.getMetaData() instanceof MetaData.Response response
              ? "status " + response.getStatus()
              : "trailers " + frame.getMetaData().getHttpFields().asString().trim());
      if (!frame.isEndStream()) {
        stream.demand();
      }
    }

    @Override
    public void onDataAvailable(Stream stream) {
      Stream.Data data = stream.readData();
      if (data == null) {
        stream.demand();
        return;
      }
      ByteBuffer bytes = data.frame().getByteBuffer();
      if (bytes.hasRemaining()) {
        all.add("data " + StandardCharsets.US_ASCII.decode(bytes.slice()));
      }
      boolean last = data.frame().isEndStream();
      data.release();
      if (!last) {
        stream.demand();
      }
    }

    @Override
    public void onReset(Stream stream, ResetFrame frame, Callback callback) {
      all.add("reset " + frame.getError());
      callback.succeeded();
    }
  }

  private Stream open(Session session, Watched watched, String path, boolean upload, Received to)
      throws Exception {
    return session
        .newStream(head(watched, upload ? "POST" : "GET", path, !upload), to)
        .get(30, TimeUnit.SECONDS);
  }

  private static void body(Stream stream, boolean last) throws Exception {
    ByteBuffer body = ByteBuffer.wrap("body".getBytes(StandardCharsets.US_ASCII));
    stream.data(new DataFrame(stream.getId(), body, last)).get(30, TimeUnit.SECONDS);
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty"})
  void carriesTrailersBothWays(String container) throws Exception {
    try (Watched watched = start(container)) {
      Session session = connect(watched);
      Received received = new Received();
      Stream stream = open(session, watched, "/s/trailers", true, received);
      body(stream, false);
      HttpFields trailers = HttpFields.build().put("x-mark", "7");
      stream
          .headers(new HeadersFrame(
              stream.getId(), new MetaData(HttpVersion.HTTP_2, trailers), null, true))
          .get(30, TimeUnit.SECONDS);
      assertThat(received.next()).isEqualTo("status 200");
      StringBuilder text = new StringBuilder();
      String next;
      while ((next = received.next()) != null && next.startsWith("data ")) {
        text.append(next.substring("data ".length()));
      }
      assertThat(text).hasToString("{x-mark=7}");
      assertThat(next).isEqualTo("trailers x-checksum: c4");
      assertThat(watched.logged(1)).containsExactly("POST /s 200");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty"})
  void endsARequestOnce_whoseStreamTheClientResets(String container) throws Exception {
    try (Watched watched = start(container)) {
      List<String> paths = List.of("/s/endless", "/s/async-endless", "/s/upload");
      // More than may be in flight at a time.
      for (int n = 1; n <= 3; n++) {
        String path = paths.get(n % 3);
        boolean upload = path.endsWith("upload");
        Received received = new Received();
        // Tomcat ends a connection with many resets.
        Stream stream = open(connect(watched), watched, path, upload, received);
        assertThat(SEEN.poll(30, TimeUnit.SECONDS)).isEqualTo("started");
        if (upload) {
          body(stream, false);
        } else {
          assertThat(received.next()).isEqualTo("status 200");
        }
        stream.reset(
            new ResetFrame(stream.getId(), ErrorCode.CANCEL_STREAM_ERROR.code), Callback.NOOP);
        assertThat(SEEN.poll(60, TimeUnit.SECONDS)).isEqualTo("stopped");
        assertThat(watched.logged(n)).hasSize(n);
      }
      Received received = new Received();
      open(connect(watched), watched, "/s/fine", false, received);
      assertThat(received.next()).isEqualTo("status 200");
      assertThat(received.next()).isEqualTo("data fine");
      List<String> logged = watched.logged(4);
      assertThat(logged).hasSize(4).filteredOn("GET /s -1"::equals).hasSize(2);
      // To Tomcat, it is a body that cannot be read.
      assertThat(logged)
          .filteredOn(l -> l.startsWith("POST "))
          .hasSize(1)
          .isSubsetOf("POST /s -1", "POST /s 400");
      assertThat(watched.failures()).containsOnly("DEBUG http client went away");
    }
  }

  /** Jetty does not tell its listener then. */
  @ParameterizedTest
  @CsvSource({
    "tomcat, /s/held-async-endless",
    "tomcat, /s/swallowed",
    "jetty, /s/held-async-endless",
    "jetty, /s/swallowed"
  })
  void endsAnAsynchronousRequest_whoseClientGoesBeforeTheContainersThreadIsBack(
      String container, String path) throws Exception {
    try (Watched watched = start(container)) {
      // More than may be in flight at a time.
      for (int n = 1; n <= 3; n++) {
        Received received = new Received();
        Stream stream = open(connect(watched), watched, path, false, received);
        assertThat(SEEN.poll(30, TimeUnit.SECONDS)).isEqualTo("started");
        assertThat(received.next()).isEqualTo("status 200");
        stream.reset(
            new ResetFrame(stream.getId(), ErrorCode.CANCEL_STREAM_ERROR.code), Callback.NOOP);
        assertThat(SEEN.poll(60, TimeUnit.SECONDS)).isEqualTo("stopped");
        assertThat(watched.logged(n)).hasSize(n).containsOnly("GET /s -1");
      }
      assertThat(watched.failures()).containsOnly("DEBUG http client went away");
    }
  }

  /** To Tomcat the body has ended then, after what came before. */
  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty"})
  void takesNoBodyForWhole_whoseStreamWasResetBeforeItWasRead(String container) throws Exception {
    try (Watched watched = start(container)) {
      CountDownLatch answered = new CountDownLatch(1);
      Session session = client
          .connect(new InetSocketAddress("localhost", watched.port()), new Session.Listener() {
            @Override
            public void onPing(Session same, PingFrame frame) {
              answered.countDown();
            }
          })
          .get(30, TimeUnit.SECONDS);
      Stream stream = open(session, watched, "/s/late-upload", true, new Received());
      assertThat(SEEN.poll(30, TimeUnit.SECONDS)).isEqualTo("started");
      body(stream, false);
      stream.reset(
          new ResetFrame(stream.getId(), ErrorCode.CANCEL_STREAM_ERROR.code), Callback.NOOP);
      session.ping(new PingFrame(false), Callback.NOOP);
      assertThat(answered.await(30, TimeUnit.SECONDS)).isTrue(); // so the reset has been seen
      MAY_READ.release();
      assertThat(SEEN.poll(60, TimeUnit.SECONDS)).isEqualTo("stopped");
      assertThat(watched.logged(1)).hasSize(1).isSubsetOf("POST /s -1", "POST /s 400");
    }
  }

  /** Behind a proxy that speaks TLS to the browser, and HTTP/2 without TLS to us. */
  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty"})
  void letsAPageOfItsOwnOriginWrite(String container) throws Exception {
    try (Watched watched = start(container)) {
      HttpFields fields = HttpFields.build().put("Origin", "https://example.com");
      HttpURI uri = HttpURI.from("http://example.com/s/fine");
      HeadersFrame head = new HeadersFrame(
          new MetaData.Request("POST", uri, HttpVersion.HTTP_2, fields), null, true);
      Received received = new Received();
      connect(watched).newStream(head, received).get(30, TimeUnit.SECONDS);
      assertThat(received.next()).isEqualTo("status 200");
    }
  }

  /** Over HTTP/1.1, where clients use it. */
  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty"})
  void answersAClientThatWaitsToBeAskedForTheBody(String container) throws Exception {
    try (Watched watched = start(container)) {
      try (RawClient client = new RawClient(watched.port())) {
        client.send(expecting("/s/upload", 4));
        assertThat(client.readHead().status()).isEqualTo(100);
        client.send("body");
        assertThat(client.read().body()).isEqualTo("4");
      }
      for (String refused : List.of(expecting("/s/upload", 2_000_000), expecting("/nowhere", 4))) {
        try (RawClient client = new RawClient(watched.port())) {
          client.send(refused);
          RawClient.Response response = client.readHead();
          // Tomcat asks for any body, and does not wait for it.
          if (container.equals("tomcat") && response.status() == 100) {
            response = client.readHead();
          }
          assertThat(response.status()).isEqualTo(refused.contains("nowhere") ? 404 : 413);
        }
      }
      assertThat(watched.logged(3))
          .containsExactlyInAnyOrder("POST /s 200", "POST /s 413", "POST unmatched 404");
    }
  }

  private static String expecting(String path, int length) {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        + "Expect: 100-continue\r\nContent-Length: " + length + "\r\n\r\n";
  }
}
