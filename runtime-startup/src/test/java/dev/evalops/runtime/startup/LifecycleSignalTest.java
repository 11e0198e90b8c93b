package dev.evalops.runtime.startup;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Real processes and real signals. */
@Timeout(120)
class LifecycleSignalTest {

  /** The mains of services; each says {@code ready} when the test may go on. */
  static final class Service {
    private Service() {}

    public static void main(String[] args) throws Exception {
      switch (args[0]) {
        case "awaits" -> {
          CountDownLatch closed = new CountDownLatch(1);
          try (Lifecycle life = lifecycle(120)) {
            life.add("latch", closed::countDown);
            say("ready");
            life.await();
            say("awaited, interrupted: " + Thread.currentThread().isInterrupted());
            say("closed before main did: " + closed.await(300, TimeUnit.MILLISECONDS));
          }
          say("main ends");
        }
        case "starts" -> {
          try (Lifecycle life = lifecycle(120)) {
            Retry.builder()
                .delay(Duration.ofHours(1))
                .onFailedAttempt(attempt -> say("ready"))
                .build()
                .run(() -> {
                  throw new IOException("no database");
                });
            life.await();
          }
        }
        case "interrupted before it awaits" -> {
          try (Lifecycle life = lifecycle(120)) {
            say("ready");
            while (!Thread.currentThread().isInterrupted()) {
              Thread.onSpinWait();
            }
            life.await();
            say("awaited, interrupted: " + Thread.currentThread().isInterrupted());
          }
        }
        case "hangs" -> {
          try (Lifecycle life = lifecycle(2)) {
            life.add("stuck", () -> hang());
            say("ready");
            life.await();
          }
        }
        case "main has ended" -> {
          Lifecycle life = lifecycle(600);
          life.add("failing", () -> {
            throw new IOException("disk full");
          });
          Thread.ofPlatform().name("server").start(() -> {
            say("ready");
            hang();
          });
        }
        case "main is deaf" -> {
          try (Lifecycle life = lifecycle(2)) {
            say("ready");
            hang();
          }
        }
        case "exits" -> {
          try (Lifecycle life = lifecycle(600)) {
            say("ready");
            System.exit(3);
          }
        }
        case "ends" -> {
          try (Lifecycle life = lifecycle(120)) {
            say("ready");
          }
          say("main ends");
        }
        case "is told while it closes" -> {
          try (Lifecycle life = lifecycle(60)) {
            life.add("slow", () -> {
              CountDownLatch told = new CountDownLatch(1);
              Runtime.getRuntime().addShutdownHook(new Thread(told::countDown));
              say("ready");
              told.await();
              say("slow closed");
            });
          }
        }
        default -> throw new IllegalArgumentException(args[0]);
      }
    }

    private static Lifecycle lifecycle(int seconds) {
      Lifecycle life = Lifecycle.builder()
          .closeTimeout(Duration.ofSeconds(seconds))
          .untilTerminated()
          .open();
      life.add("db", () -> say("db closed"));
      life.add("http", () -> say("http closed"));
      return life;
    }

    private static void say(String line) {
      System.out.println(line);
    }

    private static void hang() {
      while (true) {
        try {
          Thread.sleep(Duration.ofHours(1));
        } catch (InterruptedException e) {
          // deaf
        }
      }
    }
  }

  private record Ended(int status, List<String> lines) {}

  private static Process start(String scenario) throws IOException {
    List<String> command = new ArrayList<>();
    if (defaultSignals()) {
      command.addAll(List.of("env", "--default-signal=INT"));
    }
    command.addAll(List.of(
        System.getProperty("java.home") + "/bin/java",
        "-Xmx64m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        System.getProperty("java.class.path"),
        Service.class.getName(),
        scenario));
    ProcessBuilder java = new ProcessBuilder(command).redirectErrorStream(true);
    java.environment().remove("JAVA_TOOL_OPTIONS"); // the JVM would print them
    return java.start();
  }

  /** A build that runs in the background of a shell ignores SIGINT, and its children inherit that. */
  private static boolean defaultSignals() {
    try {
      return new ProcessBuilder("env", "--default-signal=INT", "true").start().waitFor() == 0;
    } catch (IOException e) {
      return false;
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  private static Ended signal(String scenario, String signal) throws Exception {
    Process process = start(scenario);
    try (BufferedReader out = process.inputReader()) {
      assertThat(out.readLine()).isEqualTo("ready");
      if (!signal.isEmpty()) {
        Process kill =
            new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).start();
        assertThat(kill.waitFor()).isZero();
      }
      List<String> lines =
          out.lines().filter(line -> !line.endsWith("startup finished")).toList();
      assertThat(process.waitFor(30, TimeUnit.SECONDS)).isTrue();
      return new Ended(process.exitValue(), lines);
    } finally {
      process.destroyForcibly();
    }
  }

  @ParameterizedTest
  @CsvSource({"TERM, 143", "INT, 130"})
  void aSignalEndsAwait_andMainCloses(String signal, int status) throws Exception {
    Ended ended = signal("awaits", signal);
    assertThat(ended.lines)
        .containsExactly(
            "awaited, interrupted: false",
            "closed before main did: false",
            "http closed",
            "db closed",
            "main ends");
    assertThat(ended.status).isEqualTo(status);
  }

  @Test
  void aSignalDuringStartUpInterruptsTheRetry_andWhatIsUpIsClosed() throws Exception {
    Ended ended = signal("starts", "TERM");
    assertThat(ended.lines)
        .startsWith("http closed", "db closed")
        .anyMatch(line -> line.endsWith("StartupException: startup interrupted"))
        .anyMatch(line -> line.endsWith("IOException: no database"));
    assertThat(ended.status).isEqualTo(143);
  }

  @Test
  void aSignalJustBeforeAwaitLeavesNoInterruptBehind() throws Exception {
    Ended ended = signal("interrupted before it awaits", "TERM");
    assertThat(ended.lines)
        .containsExactly("awaited, interrupted: false", "http closed", "db closed");
    assertThat(ended.status).isEqualTo(143);
  }

  @Test
  void aResourceThatHangsIsLeftBehind_andNamed() throws Exception {
    Ended ended = signal("hangs", "TERM");
    assertThat(ended.lines)
        .startsWith("http closed", "db closed")
        .anyMatch(line -> line.contains("ShutdownException: stuck: not done within "));
    assertThat(ended.status).isEqualTo(143);
  }

  @Test
  void everythingIsClosedWithoutMain_whenMainHasEnded() throws Exception {
    // The deadline is ten minutes, and main gets half of it: waiting for main would fail this test.
    Ended ended = signal("main has ended", "TERM");
    assertThat(ended.lines)
        .contains("http closed", "db closed")
        .anyMatch(line -> line.contains("ShutdownException: failing: disk full"));
    assertThat(ended.status).isEqualTo(143);
  }

  @Test
  void everythingIsClosedWithoutMain_whenMainDoesNotListen() throws Exception {
    Ended ended = signal("main is deaf", "TERM");
    assertThat(ended.lines).containsExactly("http closed", "db closed");
    assertThat(ended.status).isEqualTo(143);
  }

  @Test
  void everythingIsClosedAtOnce_whenMainExits() throws Exception {
    // The deadline is ten minutes, and main gets half of it: waiting for main would fail this test.
    Ended ended = signal("exits", "");
    assertThat(ended.lines).containsExactly("http closed", "db closed");
    assertThat(ended.status).isEqualTo(3);
  }

  @Test
  void aProcessThatEndsByItselfIsNotHeldUp() throws Exception {
    Ended ended = signal("ends", "");
    assertThat(ended.lines).containsExactly("http closed", "db closed", "main ends");
    assertThat(ended.status).isZero();
  }

  @Test
  void aSignalWhileMainClosesLetsItFinish() throws Exception {
    Ended ended = signal("is told while it closes", "TERM");
    assertThat(ended.lines).containsExactly("slow closed", "http closed", "db closed");
    assertThat(ended.status).isEqualTo(143);
  }
}
