package dev.evalops.hook;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.HttpExchange.FailedException;
import dev.evalops.hook.TestService.Answer;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CurlTest {
  private static final Duration LONG = Duration.ofSeconds(60);

  @TempDir
  private Path dir;

  private final Map<String, String> environment = new HashMap<>();
  private TestService service;
  private TestCa authority;

  @BeforeEach
  void start() throws IOException {
    authority = TestCa.create();
    TestCa.Issued pair = authority.issue("both");
    String ca = Files.writeString(dir.resolve("ca"), authority.pem()).toString();
    String cert = Files.writeString(dir.resolve("cert"), pair.chainPem()).toString();
    String key = Files.writeString(dir.resolve("key"), pair.keyPem()).toString();
    service = new TestService(ServerTls.builder()
            .reloadEvery(Duration.ZERO)
            .certificate(cert, key)
            .requireClients(ca)
            .open()
            .sslContext())
        .evaluate(TestService.ALLOW);
    environment.put("EVALOPS_GOVERNANCE_URL", service.url());
    environment.put("EVALOPS_WORKSPACE_ID", "w");
    environment.put("EVALOPS_AGENT_TOKEN", "tok-123");
    environment.put("EVALOPS_CA_FILE", ca);
    environment.put("EVALOPS_CERT_FILE", cert);
    environment.put("EVALOPS_KEY_FILE", key);
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private Settings settings() throws Denial {
    return Settings.load(environment, new ManagedFile(Path.of("/nonexistent/x"), false, null));
  }

  private Curl curl() throws Denial {
    return Objects.requireNonNull(Curl.of(settings()));
  }

  private HttpExchange.Answer send(String body, Duration timeout) throws Exception {
    return curl()
        .send(
            service.url() + GovernanceCheck.EVALUATE,
            "X-One: 1\r\nX-Two: 2\r\n",
            body.getBytes(StandardCharsets.UTF_8),
            "tok-123",
            timeout);
  }

  private Verdict verdict(Curl curl) throws Denial {
    byte[] event = Call.EVENT
        .replace("FAKE-SECRET", "\\\\ \\\" @ caf\u00e9 \\n #")
        .getBytes(StandardCharsets.UTF_8);
    return GovernanceCheck.of(
        settings(), curl, ToolUse.parse(event, event.length), new Tickets(dir, "ann"));
  }

  @Test
  void asksTheSameAsJava() throws Exception {
    assertThat(verdict(curl())).isSameAs(Verdict.ALLOW);
    assertThat(verdict(null)).isSameAs(Verdict.ALLOW);
    TestService.Request byCurl = service.requests.get(0);
    TestService.Request byJava = service.requests.get(1);
    assertThat(byCurl.path()).isEqualTo(byJava.path());
    assertThat(byCurl.body()).isEqualTo(byJava.body());
    assertThat(byCurl.headers()).isEqualTo(byJava.headers());
    assertThat(byCurl.headers().get("Authorization")).containsExactly("Bearer tok-123");
  }

  @Test
  void sendsTheBodyAsItIs() throws Exception {
    String body =
        "{\"a\":\"\\\\ \\\" \\n # caf\u00e9 \ud83d\ude00 " + "x".repeat(47 * 1024) + "\"}";
    assertThat(send(body, LONG).status).isEqualTo(200);
    assertThat(service.requests.get(0).body()).isEqualTo(Vectors.JSON.readTree(body));
    assertThat(service.requests.get(0).headers().get("X-two")).containsExactly("2");
  }

  @Test
  void leavesToJavaWhatItCannotDo() throws Exception {
    assertThat(send("{\"a\":\"" + "x".repeat(48 * 1024) + "\"}", LONG)).isNull();
    Path other = Files.writeString(dir.resolve("other"), TestCa.create().pem());
    environment.put("EVALOPS_CA_FILE", other.toString());
    assertThat(send("{}", LONG)).isNull();
    assertThat(verdict(curl()).reason())
        .endsWith("the server's certificate is not of a trusted authority");
    environment.put("EVALOPS_CA_FILE", dir.resolve("ca").toString());
    environment.put("EVALOPS_KEY_FILE", other.toString());
    assertThat(send("{}", LONG)).isNull();
    assertThat(verdict(curl()).reason()).contains("hook bootstrap failed: ");
    assertThat(service.requests).isEmpty();
  }

  @Test
  void deniesAnotherName() throws Exception {
    environment.put("EVALOPS_GOVERNANCE_URL", service.url().replace("127.0.0.1", "127.0.0.2"));
    assertThat(verdict(curl()).isAllowed()).isFalse();
    assertThat(service.requests).isEmpty();
  }

  @ParameterizedTest
  @CsvSource(
      nullValues = "-",
      value = {
        "EVALOPS_CA_FILE, -",
        "EVALOPS_CERT_FILE, -",
        "EVALOPS_KEY_FILE, -",
        "EVALOPS_SERVER_NAME, localhost",
        "EVALOPS_CA_FILE, ca.pem",
        "EVALOPS_CERT_FILE, /tmp/a:b",
        "EVALOPS_KEY_FILE, '/tmp/a b'",
        "EVALOPS_KEY_FILE, '/tmp/a\"b'",
        "EVALOPS_KEY_FILE, '/tmp/a\\b'",
        "EVALOPS_GOVERNANCE_URL, http://127.0.0.1:9",
      })
  void isNotUsed_whereItMightDoSomethingElse(String key, String value) throws Exception {
    assertThat(Curl.of(settings())).isNotNull();
    if (value == null) {
      environment.remove(key);
    } else {
      environment.put(key, value);
    }
    assertThat(Curl.of(settings())).isNull();
  }

  @Test
  void takesARefusalForOne() throws Exception {
    service.on(GovernanceCheck.EVALUATE, question -> new Answer(503, "text/plain", "x"));
    assertThat(verdict(curl()).reason()).endsWith("governance check failed: HTTP status 503");
    service.on(GovernanceCheck.EVALUATE, question -> new Answer(302, "text/plain", "x"));
    assertThat(verdict(curl()).reason()).endsWith("governance check failed: HTTP status 302");
    service.on(GovernanceCheck.EVALUATE, question -> Answer.json("{"));
    assertThat(verdict(curl()).reason()).contains("the answer is no valid JSON");
    service.on(
        GovernanceCheck.EVALUATE, question -> Answer.json("\"" + "x".repeat(1 << 20) + "\""));
    assertThat(verdict(curl()).reason()).contains("the answer is longer than 1048576 bytes");
    assertThat(service.requests).hasSize(4);
  }

  /** What has been asked for must not be asked for again. */
  @Test
  void asksOnce_whenCurlDoesNotLikeTheAnswer() throws Exception {
    service.on(
        GovernanceCheck.EVALUATE,
        question -> new Answer(200, "application/json; x=\0", TestService.ALLOW));
    assertThat(verdict(curl()).reason()).endsWith("the answer is no HTTP");
    assertThat(service.requests).hasSize(1);
  }

  @Test
  void saysWhatIsWrongWithTheConnection() throws Exception {
    service.close();
    assertThatThrownBy(() -> send("{}", LONG))
        .isInstanceOf(FailedException.class)
        .hasMessage("connection refused");
    environment.put("EVALOPS_GOVERNANCE_URL", "https://governance.invalid");
    assertThat(verdict(curl()).reason()).endsWith("the host's name cannot be resolved");
  }

  @Test
  void endsWithItsTime_andShowsTheTokenToNobody() throws Exception {
    CountDownLatch end = new CountDownLatch(1);
    service.on(GovernanceCheck.EVALUATE, question -> {
      try {
        end.await();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return Answer.json("{}");
    });
    CompletableFuture<Throwable> failed = new CompletableFuture<>();
    Launched.run(() -> {
      try {
        send("{}", Duration.ofSeconds(5));
        failed.complete(null);
      } catch (Throwable e) {
        failed.complete(e);
      }
    });
    List<String> lines =
        await().atMost(60, SECONDS).until(CurlTest::curls, found -> !found.isEmpty());
    assertThat(lines).allMatch(line -> line.contains("--config") && !line.contains("tok-123"));
    assertThat(failed.get(60, SECONDS)).hasMessage("no whole answer in time");
    await().atMost(60, SECONDS).until(() -> curls().isEmpty());
    end.countDown();
  }

  private static List<String> curls() {
    return ProcessHandle.current()
        .children()
        .map(child -> child.info().commandLine().orElse(""))
        .filter(line -> line.contains("/curl "))
        .toList();
  }
}
