package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.mtls.ServerTls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.PipedInputStream;
import java.io.PipedOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The check of the resident service, without its socket. */
class ResidentCheckTest {
  private static final String TRUSTED_NO_MORE =
      "the server's certificate is not of a trusted authority";

  @TempDir
  private Path work;

  private Path properties;
  private ResidentCheck resident;

  @BeforeEach
  void create() throws IOException {
    Path program = Files.writeString(work.resolve("program.jar"), "");
    properties = Files.writeString(work.resolve("agent-hook.properties"), "");
    Distribution.mode("rw-r-----", properties);
    resident = new ResidentCheck(
        ManagedFile.named(properties, program), work.resolve("tickets"), Duration.ofMillis(100));
  }

  private void configure(TestService service, String... more) throws IOException {
    Files.writeString(
        properties,
        "EVALOPS_WORKSPACE_ID=w\nEVALOPS_GOVERNANCE_URL=" + service.url() + "\n"
            + String.join("\n", more) + "\n");
  }

  private Verdict check(String caller) {
    return check(caller, Launched.EVENT.getBytes(UTF_8));
  }

  private Verdict check(String caller, byte[] event) {
    return resident.check(new ByteArrayInputStream(event), caller);
  }

  private static byte[] large(int size) {
    return ("{\"tool_name\":\"Write\",\"session_id\":\"s\",\"tool_input\":{\"content\":\""
            + "x".repeat(size) + "\"}}")
        .getBytes(UTF_8);
  }

  @Test
  void readsItsCertificatesAgain_afterAConfigurationThatCouldNotBeUsed() throws Exception {
    TestCa authority = TestCa.create();
    TestCa.Issued pair = authority.issue("service");
    Path ca = Files.writeString(work.resolve("ca"), authority.pem());
    ServerTls tls = ServerTls.builder()
        .certificate(
            Files.writeString(work.resolve("cert"), pair.chainPem()).toString(),
            Files.writeString(work.resolve("key"), pair.keyPem()).toString())
        .open();
    try (TestService secure = new TestService(tls.sslContext()).evaluate(TestService.ALLOW)) {
      configure(secure, "EVALOPS_CA_FILE=" + ca);
      assertThat(check("ann")).isSameAs(Verdict.ALLOW);
      configure(secure, "EVALOPS_CA_FILE=" + work.resolve("missing"));
      assertThat(check("ann").reason()).contains("hook bootstrap failed");
      configure(secure, "EVALOPS_CA_FILE=" + ca);
      assertThat(check("ann")).isSameAs(Verdict.ALLOW);
      Files.writeString(ca, TestCa.create().pem());
      await().atMost(60, SECONDS).until(() -> check("ann").reason().contains(TRUSTED_NO_MORE));
    }
  }

  @Test
  void answersTheSmallCallsOfAll_whileUsersHoldTheMemoryForLargeOnes() throws Exception {
    ExecutorService threads = Executors.newCachedThreadPool();
    try (TestService service = new TestService().evaluate(TestService.ALLOW);
        PipedOutputStream anns = new PipedOutputStream();
        PipedOutputStream bobs = new PipedOutputStream()) {
      configure(service);
      CompletableFuture<Verdict> ann = hold(anns, large(6 << 20), "ann", threads);
      assertThat(check("ann", large(1 << 20)).reason()).contains("too many large inputs at once");
      assertThat(check("ann")).isSameAs(Verdict.ALLOW);
      assertThat(check("cid", large(1 << 20))).isSameAs(Verdict.ALLOW);

      CompletableFuture<Verdict> bob = hold(bobs, large(3 << 20), "bob", threads);
      assertThat(check("cid", large(1 << 20)).reason()).contains("too many large inputs at once");
      assertThat(check("cid")).isSameAs(Verdict.ALLOW);

      anns.close();
      bobs.close();
      assertThat(ann.get(60, SECONDS)).isSameAs(Verdict.ALLOW);
      assertThat(bob.get(60, SECONDS)).isSameAs(Verdict.ALLOW);
      assertThat(check("ann", large(7 << 20))).isSameAs(Verdict.ALLOW);
    } finally {
      threads.shutdownNow();
    }
  }

  /** Begins a call that has read nearly all of its event, and waits for the end of the stream. */
  private CompletableFuture<Verdict> hold(
      PipedOutputStream out, byte[] event, String caller, ExecutorService threads)
      throws IOException {
    PipedInputStream in = new PipedInputStream(out, 64 * 1024);
    CompletableFuture<Verdict> verdict =
        CompletableFuture.supplyAsync(() -> resident.check(in, caller), threads);
    out.write(event);
    out.flush();
    return verdict;
  }
}
