package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HostTest {
  private static final Host EMPTY = new Host(Map.of("PATH", ""), "plan9-mips", () -> false);
  private static final int UNUSED_PORT = 19_999;

  @Test
  void environmentVariableWins() {
    Host host = new Host(
        Map.of(
            "TEST_DATABASE_URL", "postgres://u:p@db.example:5433/app?sslmode=disable",
            "TEST_REDIS_URL", "rediss://:secret@cache.example:6380/3",
            "TEST_NATS_URL", " nats://bus.example:4223 "),
        "plan9-mips",
        () -> false);
    assertThat(PostgresServer.shared(host).url())
        .isEqualTo("postgres://u:p@db.example:5433/app?sslmode=disable");
    assertThat(RedisServer.shared(host).url()).isEqualTo("rediss://:secret@cache.example:6380/3");
    assertThat(NatsServer.shared(host).url()).isEqualTo("nats://bus.example:4223");
  }

  @Test
  void environmentVariableThatIsNoUrlIsRefused_withoutShowingIt() {
    Host host = new Host(
        Map.of("TEST_DATABASE_URL", "postgres://u:geh eim@db/app"), "plan9-mips", () -> false);
    assertThatThrownBy(() -> PostgresServer.shared(host))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("TEST_DATABASE_URL")
        .hasNoCause()
        .message()
        .doesNotContain("geh");
  }

  @Test
  void saysWhatToInstall_whenThereIsNoNats() {
    assertThatThrownBy(() -> NatsServer.start(UNUSED_PORT, EMPTY))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage(
            "no nats-server for the tests: run scripts/install-test-servers, or apt-get install nats-server,"
                + " or brew install nats-server, or set TEST_NATS_URL");
  }

  @Test
  void saysWhatToInstall_whenThereIsNoRedis() {
    assertThatThrownBy(() -> RedisServer.start(UNUSED_PORT, EMPTY))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("no redis-server")
        .hasMessageContaining("TEST_REDIS_URL");
  }

  @Test
  void redisComesFromTheJar_whenNoneIsOnThePath() {
    Host host = new Host(Map.of(), Host.current().platform(), () -> false);
    try (RedisServer server = ServerProcess.onFreePort(port -> RedisServer.start(port, host))) {
      server.kill();
      server.restart();
      assertThat(server.url()).isEqualTo("redis://127.0.0.1:" + server.port());
    }
  }

  @Test
  void programIsTheFirstOnThePathThatCanBeRun(@TempDir Path folder) throws IOException {
    Path first = Files.createDirectory(folder.resolve("first"));
    Path second = Files.createDirectory(folder.resolve("second"));
    Files.writeString(first.resolve("some-server"), "not executable");
    Path program = Files.writeString(second.resolve("some-server"), "#!/bin/sh\n");
    Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("rwxr-xr-x"));
    Host host = new Host(
        Map.of("PATH", ":" + first + ":" + folder.resolve("none") + ":" + second), "", () -> false);
    assertThat(host.program("some-server")).contains(program);
    assertThat(host.program("other-server")).isEmpty();
  }
}
