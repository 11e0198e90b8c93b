package dev.evalops.hook;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.HookJar.Result;
import dev.evalops.hook.HookJar.Running;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tickets that processes share, as the calls of a host do. */
class TicketProcessTest {
  @TempDir
  private Path home;

  private TestService service;
  private Approvers approvers;

  @BeforeEach
  void start() throws IOException {
    service = new TestService();
    approvers = new Approvers(service);
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private HookJar hook(String wait) {
    return new HookJar(service.url())
        .jvm("-Duser.home=" + home)
        .with("EVALOPS_APPROVALS_URL", service.url())
        .with("EVALOPS_APPROVAL_MODE", "ticket")
        .with("EVALOPS_APPROVAL_TIMEOUT", wait);
  }

  @Test
  void allowsOneOfManyProcessesAtOnce() throws Exception {
    hook("100ms").run().assertDeniedWith("denied: approval ap-1 requested, valid until ");
    approvers.decide("*", "DENIED");
    approvers.decide("ap-1", "APPROVED");
    List<Running> processes = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      processes.add(hook("30s").start());
    }
    int allowed = 0;
    for (Running process : processes) {
      Result result = process.await();
      if (result.status() == 0) {
        result.assertAllowed(0);
        allowed++;
      } else {
        result.assertDenied("denied: approval denied: by ann");
      }
    }
    assertThat(allowed).isEqualTo(1);
  }

  /** As in a container whose user has no entry in passwd; only newer JVMs go by the variable then. */
  @Test
  void keepsTicketsWhereTheEnvironmentHasTheHome_whenTheSystemKnowsNone() throws Exception {
    hook("100ms")
        .jvm("-Duser.home=?")
        .with("HOME", home.toString())
        .run()
        .assertDeniedWith("denied: approval ap-1 requested, valid until ");
    assertThat(home.resolve(".local/state/evalops-agent-hook/tickets")).isNotEmptyDirectory();
  }

  @Test
  void losesTheApproval_whenTheProcessDiesBeforeItAllows() throws Exception {
    hook("100ms").run().assertDeniedWith("denied: approval ap-1 requested, valid until ");
    approvers.decide("ap-1", "APPROVED");
    CountDownLatch dead = new CountDownLatch(1);
    service.on(Approval.CONSUME, question -> {
      try {
        dead.await();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return TestService.Answer.json("{}");
    });
    Running using = hook("30s").start();
    await().atMost(60, SECONDS).until(() -> !service.requests(Approval.CONSUME).isEmpty());
    using.signal("KILL");
    assertThat(using.await().status()).isNotZero();
    dead.countDown();

    hook("100ms").run().assertDeniedWith("denied: approval ap-2 requested, valid until ");
  }
}
