package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ServersTest {
  static Stream<Supplier<TestServer>> servers() {
    return Stream.of(PostgresServer::start, RedisServer::start, NatsServer::start);
  }

  @ParameterizedTest
  @MethodSource("servers")
  void killCutsItOff_andRestartBringsItBackOnTheSamePort(Supplier<TestServer> starter) {
    TestServer server = starter.get();
    try (server) {
      assertThat(listens(server)).isTrue();
      server.kill();
      assertThat(listens(server)).isFalse();
      server.restart();
      assertThat(listens(server)).isTrue();
    }
    server.close();
    assertThat(listens(server)).isFalse();
  }

  private static boolean listens(TestServer server) {
    try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), server.port())) {
      return socket.isConnected();
    } catch (IOException e) {
      return false;
    }
  }
}
