package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ServersTest {
  enum Kind {
    POSTGRES,
    REDIS,
    NATS;

    TestServer start() {
      return switch (this) {
        case POSTGRES -> PostgresServer.start();
        case REDIS -> RedisServer.start();
        case NATS -> NatsServer.start();
      };
    }

    TestServer start(int port) {
      return switch (this) {
        case POSTGRES -> PostgresServer.start(port);
        case REDIS -> RedisServer.start(port);
        case NATS -> NatsServer.start(port);
      };
    }

    /** What it answers; NATS speaks first. */
    byte[] question() {
      return switch (this) {
        case POSTGRES -> new byte[] {0, 0, 0, 8, 4, (byte) 210, 22, 47}; // TLS?
        case REDIS -> "PING\r\n".getBytes(StandardCharsets.US_ASCII);
        case NATS -> new byte[0];
      };
    }

    TestServer shared() {
      return switch (this) {
        case POSTGRES -> PostgresServer.shared();
        case REDIS -> RedisServer.shared();
        case NATS -> NatsServer.shared();
      };
    }
  }

  @ParameterizedTest
  @EnumSource
  void killCutsItOff_andRestartBringsItBackOnTheSamePort(Kind kind) throws IOException {
    try (TestServer server = kind.start();
        Socket client = new Socket(InetAddress.getLoopbackAddress(), server.port())) {
      server.kill();
      assertThat(isCut(client)).isTrue();
      assertThat(listens(server)).isFalse();
      server.kill();

      server.restart();
      assertThat(listens(server)).isTrue();
    }
  }

  @ParameterizedTest
  @EnumSource
  void restartWaits_whileAnotherHasItsPort(Kind kind) throws Exception {
    try (TestServer server = kind.start()) {
      server.kill();
      CompletableFuture<Void> restarted;
      try (ServerSocket other =
          new ServerSocket(server.port(), 1, InetAddress.getLoopbackAddress())) {
        assertThat(other.isBound()).isTrue();
        restarted = CompletableFuture.runAsync(server::restart);
        assertThatThrownBy(() -> restarted.get(1, TimeUnit.SECONDS))
            .isInstanceOf(TimeoutException.class);
      }
      restarted.get(30, TimeUnit.SECONDS);
      assertThat(listens(server)).isTrue();
    }
  }

  @ParameterizedTest
  @EnumSource
  void pausedItTakesConnectionsAndAnswersNothing_untilItIsResumed(Kind kind) throws IOException {
    try (TestServer server = kind.start()) {
      server.resume(); // nothing to do
      server.pause();
      try (Socket client = new Socket(InetAddress.getLoopbackAddress(), server.port())) {
        client.getOutputStream().write(kind.question());
        client.setSoTimeout(50);
        assertThatThrownBy(() -> client.getInputStream().read())
            .isInstanceOf(SocketTimeoutException.class);
        server.resume();
        client.setSoTimeout(30_000);
        assertThat(client.getInputStream().read()).isPositive();
      }
      server.pause();
      server.kill();
      assertThat(listens(server)).isFalse();
      assertThatThrownBy(server::pause).isInstanceOf(IllegalStateException.class);
      server.restart();
      server.pause();
    }
  }

  @ParameterizedTest
  @EnumSource
  void closeStopsItAndRemovesItsFiles_alsoTwice(Kind kind) throws IOException {
    List<Path> before = temporaryFiles();
    TestServer server = kind.start();
    assertThat(temporaryFiles()).hasSizeGreaterThan(before.size());
    server.close();
    server.close();
    assertThat(listens(server)).isFalse();
    assertThat(temporaryFiles()).isSubsetOf(before);
    assertThatThrownBy(server::restart)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("closed");
  }

  @ParameterizedTest
  @EnumSource
  void restartIsRefused_whileItRuns(Kind kind) {
    try (TestServer server = kind.start()) {
      assertThatThrownBy(server::restart)
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("kill()");
      assertThat(listens(server)).isTrue();
    }
  }

  @ParameterizedTest
  @EnumSource
  void startSaysWhy_whenThePortIsTaken(Kind kind) throws IOException {
    List<Path> before = temporaryFiles();
    try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      assertThatThrownBy(() -> kind.start(taken.getLocalPort()))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("ddress already in use");
    }
    assertThat(temporaryFiles()).isSubsetOf(before);
  }

  @ParameterizedTest
  @EnumSource
  void portOutOfRangeIsRefused(Kind kind) {
    assertThatThrownBy(() -> kind.start(0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("port");
    assertThatThrownBy(() -> kind.start(65_536)).isInstanceOf(IllegalArgumentException.class);
  }

  @ParameterizedTest
  @EnumSource
  void sharedServerIsOneAndCannotBeStopped(Kind kind) {
    TestServer shared = kind.shared();
    assertThat(kind.shared()).isSameAs(shared);
    shared.close();
    assertThatThrownBy(shared::kill)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("start()");
    assertThatThrownBy(shared::restart).isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(shared::pause).isInstanceOf(IllegalStateException.class);
    assertThat(listens(shared)).isTrue();
  }

  @Test
  void toStringHidesThePassword() {
    try (PostgresServer server = PostgresServer.start()) {
      assertThat(server.url()).contains("test:test@");
      assertThat(server.toString())
          .doesNotContain("test:test")
          .contains(Integer.toString(server.port()));
    }
  }

  @Test
  void startsInParallelJvmsDoNotCollide_andServersEndWithAKilledJvm() throws Exception {
    List<Process> jvms = new ArrayList<>();
    List<String> urls = new ArrayList<>();
    List<ProcessHandle> servers = new ArrayList<>();
    try {
      for (int i = 0; i < 3; i++) {
        jvms.add(new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-cp",
                withoutTestcontainers(),
                Program.class.getName())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start());
      }
      for (Process jvm : jvms) {
        BufferedReader out =
            new BufferedReader(new InputStreamReader(jvm.getInputStream(), StandardCharsets.UTF_8));
        for (String line = out.readLine(); !line.equals("ready"); line = out.readLine()) {
          urls.add(line);
        }
        servers.addAll(jvm.descendants().toList());
      }
      assertThat(urls).hasSize(9).doesNotHaveDuplicates();
    } finally {
      jvms.forEach(Process::destroyForcibly);
    }
    assertThat(servers).hasSizeGreaterThanOrEqualTo(18);
    for (ProcessHandle server : servers) {
      server.onExit().get(60, TimeUnit.SECONDS);
    }
    assertThat(urls).noneMatch(url -> listens(URI.create(url).getPort()));
  }

  /** Starts one of each and waits for its end. */
  static final class Program {
    public static void main(String[] args) throws InterruptedException {
      for (Kind kind : Kind.values()) {
        System.out.println(kind.shared().url());
      }
      System.out.println("ready");
      Thread.currentThread().join();
    }
  }

  // The class path of most users.
  private static String withoutTestcontainers() {
    return Pattern.compile(File.pathSeparator)
        .splitAsStream(System.getProperty("java.class.path"))
        .filter(jar -> !jar.contains("testcontainers") && !jar.contains("docker-java"))
        .collect(Collectors.joining(File.pathSeparator));
  }

  private static boolean isCut(Socket client) throws IOException {
    client.setSoTimeout(10_000);
    try {
      while (client.getInputStream().read() >= 0) {
        // The greeting of a NATS server.
      }
      return true;
    } catch (SocketException e) {
      return true;
    }
  }

  private static boolean listens(TestServer server) {
    return listens(server.port());
  }

  private static boolean listens(int port) {
    try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
      return socket.isConnected();
    } catch (IOException e) {
      return false;
    }
  }

  // Of this JVM: other modules are tested at the same time.
  private static List<Path> temporaryFiles() throws IOException {
    try (Stream<Path> files = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
      return files
          .filter(file -> file.getFileName()
              .toString()
              .contains("testutil-" + ProcessHandle.current().pid() + "-"))
          .toList();
    }
  }
}
