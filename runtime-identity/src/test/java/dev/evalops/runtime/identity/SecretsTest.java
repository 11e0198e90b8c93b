package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.failure;
import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_16BE;
import static java.nio.charset.StandardCharsets.UTF_16LE;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import dev.evalops.runtime.identity.IdentityServer.Answer;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.logging.SimpleFormatter;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

class SecretsTest {
  private static final String TOKEN = "tok-4f1e9b7c2d";
  private static final String KEY = "boot-8a3c5e7d1f";
  private static final String SERVICE_TOKEN = "st-0b9d8e6f4a";

  private final Logger logger = Logger.getLogger("");
  private final Queue<String> logged = new ConcurrentLinkedQueue<>();
  private final Handler handler = new Handler() {
    @Override
    public void publish(LogRecord entry) {
      logged.add(new SimpleFormatter().format(entry));
    }

    @Override
    public void flush() {}

    @Override
    public void close() {}
  };
  private final ch.qos.logback.classic.Logger slf4j =
      (ch.qos.logback.classic.Logger) LoggerFactory.getLogger("dev.evalops");
  private final AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
    @Override
    protected void append(ILoggingEvent event) {
      logged.add(event.getLoggerName() + " " + event.getFormattedMessage() + " "
          + event.getKeyValuePairs() + " " + event.getThrowableProxy());
    }
  };

  @BeforeEach
  void listen() {
    handler.setLevel(Level.ALL);
    logger.addHandler(handler);
    appender.start();
    slf4j.addAppender(appender);
  }

  @AfterEach
  void stopListening() {
    logger.removeHandler(handler);
    slf4j.detachAppender(appender);
  }

  private static String everythingOf(Throwable failure) {
    StringWriter text = new StringWriter();
    failure.printStackTrace(new PrintWriter(text, true));
    return failure + text.toString();
  }

  private static void assertNoSecret(String text) {
    assertThat(text).doesNotContain(TOKEN).doesNotContain(KEY).doesNotContain(SERVICE_TOKEN);
  }

  @Test
  void noTokenGetsIntoAnException_evenFromAServerThatSendsItBack() throws Exception {
    List<RawServer.Behaviour> behaviours = List.of(
        (socket, request) -> RawServer.write(socket, request),
        (socket, request) -> RawServer.write(socket, TOKEN + " " + KEY + "\r\n\r\n"),
        (socket, request) ->
            RawServer.write(socket, "HTTP/1.1 200 " + TOKEN + "\r\n" + TOKEN + "\r\n\r\n"),
        (socket, request) -> RawServer.write(
            socket, "HTTP/1.1 200 OK\r\nContent-Length: " + TOKEN + "\r\n\r\n" + TOKEN),
        (socket, request) ->
            RawServer.write(socket, "HTTP/1.1 " + TOKEN + " OK\r\nContent-Length: 0\r\n\r\n"),
        (socket, request) -> RawServer.write(
            socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + TOKEN + "\r\n"),
        (socket, request) ->
            RawServer.write(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + request));
    for (RawServer.Behaviour behaviour : behaviours) {
      try (RawServer server = new RawServer(behaviour);
          IdentityClient client = IdentityClient.builder(server.url())
              .requestTimeout(Duration.ofSeconds(10))
              .open()) {
        assertNoSecret(everythingOf(failure(() -> client.introspect(TOKEN))));
      }
    }
    assertNoSecret(String.join("\n", logged));
  }

  @Test
  void noTokenGetsIntoAnException_fromAnyAnswer() throws Exception {
    try (IdentityServer server = new IdentityServer();
        IdentityClient client = IdentityClient.builder(server.url())
            .serviceTokens(server.url("/t"))
            .bootstrapKey(KEY)
            .open()) {
      for (String body : List.of(
          TOKEN,
          "\"" + TOKEN + "\"",
          "{\"" + TOKEN + "\":1,\"" + TOKEN + "\":2}",
          "{\"active\":" + TOKEN + "}",
          "{\"expires_at\":\"" + TOKEN + "\"}",
          "{\"active\":true} " + KEY,
          "{\"token\":\"" + SERVICE_TOKEN + "\"}",
          "{\"token\":\"" + SERVICE_TOKEN + "\",\"expires_at\":\"" + SERVICE_TOKEN + "\"}")) {
        for (int status : new int[] {200, 201, 401, 500}) {
          server.only(status, body);
          try {
            client.introspect(TOKEN);
          } catch (IdentityException e) {
            assertNoSecret(everythingOf(e));
          }
          try {
            client.serviceToken("org", "svc", Set.of(), Duration.ofSeconds(60));
          } catch (IdentityException e) {
            assertNoSecret(everythingOf(e));
          }
        }
      }
    }
    assertNoSecret(String.join("\n", logged));
  }

  @Test
  void outagesAndFailedRenewalsAreLoggedOnce_withoutSecrets() throws Exception {
    AtomicReference<Instant> now = new AtomicReference<>(Instant.parse("2026-01-01T00:00:00Z"));
    AtomicLong nanos = new AtomicLong();
    try (IdentityServer server = new IdentityServer();
        IdentityClient client = IdentityClient.builder(server.url())
            .serviceTokens(server.url("/t"))
            .bootstrapKey(KEY)
            .fallbackFor(Duration.ofHours(1))
            .clock(now::get)
            .ticker(nanos::get)
            .open()) {
      server.then(200, "{\"active\":true}");
      client.introspect(TOKEN);
      server.only(
          201,
          "{\"token\":\"" + SERVICE_TOKEN + "\",\"expires_at\":\"" + now.get().plusSeconds(60)
              + "\"}");
      client.serviceToken("org-1", "billing", Set.of(), Duration.ofSeconds(60));
      server.only(503, TOKEN);
      client.introspect(TOKEN);
      client.introspect(TOKEN);
      now.updateAndGet(instant -> instant.plusSeconds(55));
      client.serviceToken("org-1", "billing", Set.of(), Duration.ofSeconds(60));
      client.serviceToken("org-1", "billing", Set.of(), Duration.ofSeconds(60));
      for (int flicker = 0; flicker < 5; flicker++) {
        server.only(200, "{\"active\":true}");
        client.introspect(TOKEN);
        server.only(503, TOKEN);
        client.introspect(TOKEN);
      }
      nanos.addAndGet(Duration.ofSeconds(10).toNanos());
      server.only(200, "{\"active\":true}");
      client.introspect(TOKEN);
    }
    List<String> ours =
        logged.stream().filter(line -> line.contains("dev.evalops")).collect(Collectors.toList());
    assertThat(ours)
        .hasSize(3)
        .anySatisfy(line -> assertThat(line)
            .contains(
                "identity: service unavailable; using cached introspections",
                "error=\"identity_unavailable: status_503\""))
        .anySatisfy(line -> assertThat(line)
            .contains(
                "identity: service token renewal failed; using the old token",
                "service=\"billing\"",
                "organization=\"org-1\"",
                "expires_at=\"2026-01-01T00:01:00Z\"",
                "error=\"issue_service_token: unexpected_status_503\""))
        .anySatisfy(line -> assertThat(line).contains("identity: service available again"));
    assertNoSecret(String.join("\n", logged));
  }

  @Test
  void theRecordOfAnIssuedTokenDoesNotPrintIt() {
    assertNoSecret(new IdentityJson.IssuedToken(SERVICE_TOKEN, Optional.empty()).toString());
  }

  @Test
  void noTokenIsInAHeapDump_whileItsResultIsCached(@TempDir Path directory) throws Exception {
    String seed = UUID.randomUUID().toString();
    Path dump = directory.resolve("heap.hprof");
    String refused = "Bearer " + HeapDumpChild.token(seed, 9);
    try (IdentityServer server = new IdentityServer()) {
      server.then(request -> request.path().equals("/t")
          ? Answer.of(
              201,
              "{\"token\":\"" + SERVICE_TOKEN + "\",\"expires_at\":\""
                  + Instant.now().plusSeconds(600) + "\"}")
          : refused.equals(request.header("Authorization"))
              ? Answer.of(401, "{}")
              : Answer.of(200, "{\"active\":true,\"subject\":\"cached-subject\"}"));
      String output = run(seed, server.url(), server.url("/t"), dump.toString());
      assertThat(output).contains(SERVICE_TOKEN);
      assertThat(server.requests()).hasSize(HeapDumpChild.TOKENS + 1);
    }
    byte[] heap = Files.readAllBytes(dump);
    assertThat(holds(heap, HeapDumpChild.token(seed, -1)))
        .as("the search finds a token that the process has kept")
        .isTrue();
    assertThat(holds(heap, "cached-subject")).as("the cache was full").isTrue();
    for (int i = 0; i < HeapDumpChild.TOKENS; i++) {
      assertThat(holds(heap, HeapDumpChild.token(seed, i))).as("token %d", i).isFalse();
    }
  }

  /** Runs the child without protobuf and OpenTelemetry, which nothing but the adapters may load. */
  private static String run(String... args) throws IOException, InterruptedException {
    String classPath = Arrays.stream(
            System.getProperty("java.class.path").split(System.getProperty("path.separator")))
        .filter(entry -> !entry.contains("protobuf") && !entry.contains("opentelemetry"))
        .collect(Collectors.joining(System.getProperty("path.separator")));
    List<String> command = new ArrayList<>(List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-Xmx128m",
        "-cp",
        classPath,
        HeapDumpChild.class.getName()));
    command.addAll(List.of(args));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    try {
      String output = new String(process.getInputStream().readAllBytes(), UTF_8);
      assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
      assertThat(process.exitValue()).as(output).isZero();
      return output;
    } finally {
      process.destroyForcibly();
    }
  }

  private static boolean holds(byte[] heap, String text) {
    for (Charset charset : List.of(ISO_8859_1, UTF_16BE, UTF_16LE)) {
      if (indexOf(heap, text.getBytes(charset)) >= 0) {
        return true;
      }
    }
    return false;
  }

  private static int indexOf(byte[] bytes, byte[] wanted) {
    for (int i = 0; i <= bytes.length - wanted.length; i++) {
      if (bytes[i] == wanted[0]
          && Arrays.equals(bytes, i, i + wanted.length, wanted, 0, wanted.length)) {
        return i;
      }
    }
    return -1;
  }
}
