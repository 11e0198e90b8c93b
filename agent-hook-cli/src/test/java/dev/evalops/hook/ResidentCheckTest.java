package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.mtls.ServerTls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
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
    resident = ResidentCheck.of(Optional.of(properties), program, work.resolve("tickets"));
  }

  private void configure(TestService service, String... more) throws IOException {
    Files.writeString(
        properties,
        "EVALOPS_WORKSPACE_ID=w\nEVALOPS_GOVERNANCE_URL=" + service.url() + "\n"
            + String.join("\n", more) + "\n");
  }

  private Verdict check(String caller) {
    return resident.check(new ByteArrayInputStream(Launched.EVENT.getBytes(UTF_8)), caller);
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
}
