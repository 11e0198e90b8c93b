package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.errors.StartupException;
import java.io.IOException;
import java.net.BindException;
import java.net.Inet6Address;
import java.net.NetworkInterface;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class HttpServiceTest {
  private static final AtomicInteger HANDLED = new AtomicInteger();
  private static HttpService service;

  @BeforeAll
  static void start() {
    Filter deciding = GuardTest.filter((exchange, chain) -> {
      exchange.getResponseHeaders().set("X-Route", RequestContext.of(exchange).route());
      chain.doFilter(exchange);
    });
    service = HttpService.builder(0)
        .filters(deciding)
        .handle("/foo", HttpServiceTest::route)
        .handle("/foo/bar", HttpServiceTest::route)
        .handle("/v1/notes", HttpServiceTest::throwing)
        .start();
  }

  @AfterAll
  static void stop() {
    service.close();
  }

  private static void route(HttpExchange exchange) throws IOException {
    HANDLED.incrementAndGet();
    RequestContext context = RequestContext.of(exchange);
    HttpResponses.json(exchange, 200, context.route() + " " + context.path());
  }

  private static void throwing(HttpExchange exchange) throws IOException, SQLException {
    if (exchange.getRequestMethod().equals("GET")) {
      throw new SQLException("x");
    }
    route(exchange);
  }

  @ParameterizedTest
  @CsvSource({
    "/foo, /foo /foo",
    "/foo/, /foo /foo/",
    "/foo/x/y, /foo /foo/x/y",
    "/foo?a=/bar, /foo /foo",
    "/foo/bar, /foo/bar /foo/bar",
    "/foo/bar/7, /foo/bar /foo/bar/7",
    "/foo/barn, /foo /foo/barn",
    "/%66oo/b%61r, /foo/bar /foo/bar",
    "http://x/foo, /foo /foo",
  })
  void matchesWholeSegmentsAndTheLongestPath(String target, String expected) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      assertThat(client.get(target).body()).isEqualTo("\"" + expected + "\"\n");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"/foobar", "/", "/FOO", "/fo", "/v1", "/foo;x=1", "/foo%20"})
  void answersNotFound_throughTheFilters(String target) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.get(target);
      assertThat(response.status()).isEqualTo(404);
      assertThat(response.body())
          .isEqualTo("{\"error\":{\"code\":\"not_found\",\"message\":\"resource not found\"}}\n");
      assertThat(response.header("X-Route")).contains("unmatched");
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "/foo/../v1",
        "/foo//bar",
        "//x/foo",
        "//x:80/foo/bar",
        "///foo",
        "///foo/bar",
        "////foo",
        "http:/foo",
        "/./foo",
        "/foo/%2e%2e/v1",
        "/foo%2fbar",
        "/foo/%252e%252e/v1",
        "/foo%00",
        "/foo%5c..",
        "/foo/%ff",
        "/..;/foo",
        "http://x/foo/../v1"
      })
  void refusesAmbiguousPaths_beforeAnyHandlerRuns(String target) throws IOException {
    int before = HANDLED.get();
    try (RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.get(target);
      assertThat(response.status()).isEqualTo(400);
      assertThat(response.body()).startsWith("{\"error\":{\"code\":\"invalid_input\"");
      assertThat(response.header("X-Route")).contains("unmatched");
    }
    assertThat(HANDLED.get()).isEqualTo(before);
  }

  // What the server of the JDK itself refuses is not JSON; what matters is that no handler sees it.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "GET /foo HTTP/1.1\r\n\r\n",
        "GET /foo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /foo HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /foo HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "G@T /foo HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /foo HTTP/9.9\r\nHost: a\r\n\r\n",
        "GET /foo HTTP/1.1\r\nHost: a\r\nX-A: b\u0000c\r\n\r\n",
        "POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
        "POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /foo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /foo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /foo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /foo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
      })
  void refusesWhatProxiesReadInAnotherWay(String request) throws IOException {
    int before = HANDLED.get();
    try (RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.send(request).read();
      assertThat(response.status()).isIn(400, 501);
    }
    assertThat(HANDLED.get()).isEqualTo(before);
  }

  @Test
  void takesHandlersThatThrowCheckedExceptions() throws IOException {
    try (CapturedLog log = new CapturedLog(Guard.class);
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/v1/notes").status()).isEqualTo(500);
      assertThat(client.post("/v1/notes", "").status()).isEqualTo(200);
      assertThat(log.events().get(0).getThrowableProxy().getClassName())
          .isEqualTo("java.sql.SQLException");
    }
  }

  @Test
  void answersPipelinedRequestsInOrder() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      String request = "GET /foo/%d HTTP/1.1\r\nHost: x\r\n\r\n";
      client.send(request.formatted(1) + request.formatted(2) + request.formatted(3));
      for (int i = 1; i <= 3; i++) {
        assertThat(client.read().body()).isEqualTo("\"/foo /foo/" + i + "\"\n");
      }
    }
  }

  @Test
  void refusesRequestsAboveTheLimit_butNotThoseOfProbes() throws Exception {
    CountDownLatch busy = new CountDownLatch(2);
    CountDownLatch go = new CountDownLatch(1);
    try (CapturedLog log = new CapturedLog(HttpService.class);
        HttpService limited = HttpService.builder(0)
            .maxInFlight(2)
            .handle("/work", (HttpService.Handler) exchange -> {
              busy.countDown();
              assertThat(go.await(20, TimeUnit.SECONDS)).isTrue();
              HttpResponses.noContent(exchange);
            })
            .handle("/healthz", HttpEndpoints.health("x"))
            .start();
        RawClient one = new RawClient(limited.port());
        RawClient two = new RawClient(limited.port());
        RawClient three = new RawClient(limited.port())) {
      one.send("GET /work HTTP/1.1\r\nHost: x\r\n\r\n");
      two.send("GET /work HTTP/1.1\r\nHost: x\r\n\r\n");
      assertThat(busy.await(20, TimeUnit.SECONDS)).isTrue();
      RawClient.Response refused = three.get("/work");
      assertThat(refused.status()).isEqualTo(503);
      assertThat(refused.header("Retry-After")).contains("1");
      assertThat(refused.body()).contains("\"code\":\"unavailable\"");
      assertThat(three.get("/healthz").status()).isEqualTo(200);
      go.countDown();
      assertThat(one.read().status()).isEqualTo(204);
      assertThat(two.read().status()).isEqualTo(204);
      assertThat(three.get("/work").status()).isEqualTo(204);
      assertThat(log.messages()).contains("WARN http requests refused, too many in flight");
    }
  }

  @Test
  void reportsEveryWrongSettingAtOnce() {
    HttpService.Builder builder = HttpService.builder(65536)
        .host(" ")
        .maxBody(-1)
        .maxInFlight(0)
        .drainTimeout(Duration.ofSeconds(-1))
        .readinessDelay(Duration.ofSeconds(-2));
    assertThatThrownBy(builder::start)
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("port must be from 0 to 65535: 65536;"
            + " host must be a name or an address, as 0.0.0.0 for every address:  ;"
            + " drainTimeout must be zero or more: PT-1S; readinessDelay must be zero or more: PT-2S;"
            + " maxBody must be 0 or more: -1; maxInFlight must be 1 or more: 0;"
            + " handle must be called once at least");
    assertThatThrownBy(
            () -> HttpService.builder().handle("/", HttpServiceTest::route).start())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("port is not set");
    assertThatThrownBy(() -> HttpFilters.maxBody(-1)).hasMessage("bytes must be 0 or more: -1");
  }

  @Test
  void saysWhyItCannotListen() {
    assertThatThrownBy(() -> HttpService.builder(service.port())
            .handle("/", HttpServiceTest::route)
            .start())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("http: cannot listen on port " + service.port() + ": ")
        .hasRootCauseInstanceOf(BindException.class);
  }

  @ParameterizedTest
  @ValueSource(strings = {"192.0.2.1", "no-such-host.invalid"})
  void saysWhichAddressIsNotItsOwn(String host) {
    assertThatThrownBy(() -> HttpService.builder(0)
            .host(host)
            .handle("/", HttpServiceTest::route)
            .start())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("http: cannot listen on " + host + ", port 0: ");
  }

  @Test
  void listensOnOneAddress() throws IOException {
    try (HttpService local = HttpService.builder(0)
            .host("127.0.0.1")
            .handle("/", HttpServiceTest::route)
            .start();
        RawClient client = new RawClient(local.port())) {
      assertThat(local.uri()).hasToString("http://127.0.0.1:" + local.port());
      assertThat(client.get("/any/thing").body()).isEqualTo("\"/ /any/thing\"\n");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"::1", "[::1]"})
  void listensOnAnIpv6Address_withOrWithoutBrackets(String host) throws IOException {
    HttpService.Builder builder =
        HttpService.builder(0).host(host).handle("/", HttpServiceTest::route);
    if (NetworkInterface.networkInterfaces()
        .flatMap(NetworkInterface::inetAddresses)
        .noneMatch(Inet6Address.class::isInstance)) {
      assertThatThrownBy(builder::start).isInstanceOf(StartupException.class);
      return;
    }
    try (HttpService local = builder.start()) {
      assertThat(local.uri()).hasToString("http://[::1]:" + local.port());
    }
  }

  @Test
  void runsOnPlatformThreads_beforeJava24() throws IOException {
    try (HttpService platform = HttpService.builder(0)
            .javaFeature(21)
            .handle(
                "/",
                exchange ->
                    HttpResponses.json(exchange, 200, Thread.currentThread().isVirtual()))
            .start();
        RawClient client = new RawClient(platform.port())) {
      assertThat(client.get("/").body()).isEqualTo("false\n");
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void runsOnVirtualThreads_fromJava24On(int processors) throws IOException {
    try (HttpService virtual = HttpService.builder(0)
            .javaFeature(24)
            .processors(processors)
            .handle(
                "/",
                exchange ->
                    HttpResponses.json(exchange, 200, Thread.currentThread().isVirtual()))
            .start();
        RawClient client = new RawClient(virtual.port())) {
      assertThat(client.get("/").body()).isEqualTo("true\n");
    }
  }

  @Test
  void limitsWhatTheServerOfTheJdkDoesNot() {
    assertThat(Map.of(
            "sun.net.httpserver.nodelay", "true",
            "sun.net.httpserver.idleInterval", "75",
            "sun.net.httpserver.maxIdleConnections", "10000",
            "jdk.httpserver.maxConnections", "10000",
            "sun.net.httpserver.maxReqHeaderSize", "32768",
            "sun.net.httpserver.maxReqHeaders", "100"))
        .allSatisfy((name, value) -> assertThat(System.getProperty(name)).isEqualTo(value));
  }

  @ParameterizedTest
  @ValueSource(strings = {"X-Long: %s", "GET"})
  void refusesHugeHeaders(String kind) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      String request = kind.equals("GET")
          ? "GET /foo?" + "a".repeat(40_000) + " HTTP/1.1\r\nHost: x\r\n\r\n"
          : "GET /foo HTTP/1.1\r\nHost: x\r\n" + kind.formatted("a".repeat(40_000)) + "\r\n\r\n";
      assertThatThrownBy(() -> client.send(request).read()).isInstanceOf(IOException.class);
    }
    try (RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/foo").status()).isEqualTo(200);
    }
  }

  @Test
  void reportsPropertiesThatHaveNoEffect_inAnotherProcess() throws Exception {
    List<String> log = PropertiesProbe.run();
    assertThat(log)
        .anyMatch(line -> line.contains("another HTTP server was created before"))
        .anyMatch(line -> line.contains("no effect") && line.contains("idleInterval"))
        .contains("maxReqTime=7", "idleInterval=1");
  }

  @ParameterizedTest
  @CsvSource({
    "25.0.3+9-LTS, true",
    "25, true",
    "25.0.5, false",
    "25.0.5.1+1, false",
    "25.0.6, false",
    "21.0.12, true",
    "21.0.13+1, false",
    "21.1, false",
    "24.0.2, true",
    "26.0.2, true",
    "27, true",
    "27.0.1, false",
    "28-ea+1, false"
  })
  void knowsWhichJdksArePatched(String version, boolean unpatched) {
    assertThat(ServerProperties.isUnpatched(Runtime.Version.parse(version))).isEqualTo(unpatched);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"close", "Close", "keep-alive, close", "te,CLOSE", "te\r\nConnection: close"})
  void saysThatItCloses_whenTheClientAsksForIt(String options) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client
          .send("GET /foo HTTP/1.1\r\nHost: x\r\nConnection: " + options + "\r\n\r\n")
          .read();
      assertThat(response.status()).isEqualTo(200);
      assertThat(response.header("Connection")).contains("close");
      assertThat(client.isAtEnd()).isTrue();
    }
  }

  @Test
  void saysThatItCloses_whenTheEndOfTheConnectionIsTheEndOfTheBody() throws IOException {
    try (HttpService streaming = HttpService.builder(0)
            .handle("/", exchange -> {
              exchange.sendResponseHeaders(200, 0);
              exchange.getResponseBody().write('x');
            })
            .start();
        RawClient client = new RawClient(streaming.port())) {
      RawClient.Response response =
          client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").read();
      assertThat(response.body()).isEqualTo("x");
      assertThat(response.header("Connection")).contains("close");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"keep-alive", "closed", "te", "close-not"})
  void keepsTheConnection_whenTheClientAsksForSomethingElse(String options) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      String request = "GET /foo HTTP/1.1\r\nHost: x\r\nConnection: " + options + "\r\n\r\n";
      assertThat(client.send(request).read().header("Connection")).isEmpty();
      assertThat(client.send(request).read().status()).isEqualTo(200);
    }
  }

  @Test
  void virtualThreadsHaveTwoCarriers_whenThereIsOneProcessor() throws Exception {
    boolean onPlatformThreads = Runtime.version().feature() < 24;
    assertThat(CarriersProbe.run()).contains(onPlatformThreads ? "no carriers" : "carriers=2");
    assertThat(CarriersProbe.run("-Djdk.virtualThreadScheduler.parallelism=1"))
        .contains(onPlatformThreads ? "no carriers" : "carriers=1");
  }

  /** Needs a fresh JVM, with one processor. */
  static final class CarriersProbe {
    private CarriersProbe() {}

    static List<String> run(String... options) throws IOException, InterruptedException {
      List<String> command = new ArrayList<>(List.of(
          ProcessHandle.current().info().command().orElseThrow(),
          "-XX:ActiveProcessorCount=1",
          "-cp",
          System.getProperty("java.class.path")));
      command.addAll(List.of(options));
      command.add(CarriersProbe.class.getName());
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      List<String> lines = process.inputReader().lines().toList();
      assertThat(process.waitFor()).describedAs("%s", lines).isZero();
      return lines;
    }

    public static void main(String[] args) throws Exception {
      Thread.startVirtualThread(() -> {}).join(); // as a service does before it serves
      HttpService.builder(0).handle("/", HttpServiceTest::route).start();
      Object scheduler =
          new javax.management.ObjectName("jdk.management:type=VirtualThreadScheduler");
      System.out.println("carriers="
          + java.lang.management.ManagementFactory.getPlatformMBeanServer()
              .getAttribute((javax.management.ObjectName) scheduler, "Parallelism"));
      System.exit(0);
    }
  }

  @Test
  void refusesAnotherProvider_inAnotherProcess() throws Exception {
    Process process = new ProcessBuilder(
            ProcessHandle.current().info().command().orElseThrow(),
            "-cp",
            System.getProperty("java.class.path"),
            "-Dcom.sun.net.httpserver.HttpServerProvider=" + OtherProvider.class.getName(),
            OtherProvider.class.getName())
        .redirectErrorStream(true)
        .start();
    List<String> lines = process.inputReader().lines().toList();
    assertThat(process.waitFor()).describedAs("%s", lines).isZero();
    assertThat(lines)
        .anyMatch(
            line -> line.startsWith("refused: com.sun.net.httpserver.HttpServerProvider must be")
                && line.contains("OtherProvider"));
  }

  /** As one that a jar on the class path brings along. */
  public static final class OtherProvider extends com.sun.net.httpserver.spi.HttpServerProvider {
    @Override
    public com.sun.net.httpserver.HttpServer createHttpServer(
        java.net.InetSocketAddress address, int backlog) {
      throw new AssertionError("must not be asked");
    }

    @Override
    public com.sun.net.httpserver.HttpsServer createHttpsServer(
        java.net.InetSocketAddress address, int backlog) {
      throw new AssertionError("must not be asked");
    }

    public static void main(String[] args) {
      try {
        HttpService.builder(0).handle("/", HttpServiceTest::route).start();
      } catch (IllegalArgumentException e) {
        System.out.println("refused: " + e.getMessage());
      }
    }
  }

  /** Needs a fresh JVM: the server reads its properties once. */
  static final class PropertiesProbe {
    private PropertiesProbe() {}

    static List<String> run() throws IOException, InterruptedException {
      Process process = new ProcessBuilder(
              ProcessHandle.current().info().command().orElseThrow(),
              "-cp",
              System.getProperty("java.class.path"),
              "-Dsun.net.httpserver.maxReqTime=7",
              PropertiesProbe.class.getName())
          .redirectErrorStream(true)
          .start();
      List<String> lines = process.inputReader().lines().toList();
      assertThat(process.waitFor()).describedAs("%s", lines).isZero();
      return lines;
    }

    public static void main(String[] args) throws IOException {
      var early = com.sun.net.httpserver.HttpServer.create(new java.net.InetSocketAddress(0), 0);
      early.start();
      HttpService first =
          HttpService.builder(0).handle("/", HttpServiceTest::route).start();
      System.out.println("maxReqTime=" + System.getProperty("sun.net.httpserver.maxReqTime"));
      System.setProperty("sun.net.httpserver.idleInterval", "1");
      HttpService second =
          HttpService.builder(0).handle("/", HttpServiceTest::route).start();
      System.out.println("idleInterval=" + System.getProperty("sun.net.httpserver.idleInterval"));
      first.close();
      second.close();
      early.stop(0);
    }
  }

  @Test
  void handlerPassesExceptionsOnUnwrapped() {
    SQLException failure = new SQLException("x");
    HttpService.Handler handler = exchange -> {
      throw failure;
    };
    assertThatThrownBy(() -> handler.handle(null)).isSameAs(failure);
    HttpService.Handler coded = exchange -> {
      throw ServiceException.of(dev.evalops.runtime.errors.ErrorCode.NOT_FOUND).op("x");
    };
    assertThatThrownBy(() -> coded.handle(null)).isInstanceOf(ServiceException.class);
  }
}
