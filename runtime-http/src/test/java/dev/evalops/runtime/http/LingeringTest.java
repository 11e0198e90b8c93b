package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.fixtures.RawClient;
import java.io.IOException;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.Pipe;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class LingeringTest {
  private static final int CLIENTS = 24;

  static Stream<Arguments> unreadBodies() {
    return Stream.of("/deaf", "/streaming", "/empty", "/small", "/nowhere")
        .flatMap(path -> Stream.of(
            Arguments.of(path, false, 24),
            Arguments.of(path, true, 24),
            Arguments.of(path, false, 21)));
  }

  /** As many clients do: they send the whole body, whatever comes back, and read the answer afterwards. */
  @ParameterizedTest
  @MethodSource("unreadBodies")
  void answersReachTheClient_whenTheBodyIsNotRead(String path, boolean chunked, int javaFeature)
      throws Exception {
    int expected = switch (path) {
      case "/empty" -> 204;
      case "/small" -> 413;
      case "/nowhere" -> 404;
      default -> 200;
    };
    try (HttpService service = HttpService.builder(0)
            .javaFeature(javaFeature)
            .maxBody(16 << 20)
            .handle("/deaf", exchange -> HttpResponses.json(exchange, 200, "x".repeat(30_000)))
            .handle("/streaming", exchange -> {
              exchange.sendResponseHeaders(200, 0);
              exchange.getResponseBody().write(new byte[30_000]);
            })
            .handle("/empty", HttpResponses::noContent)
            .handle("/small", HttpResponses::noContent, HttpFilters.maxBody(1 << 10))
            .start();
        ExecutorService pool = Executors.newFixedThreadPool(CLIENTS)) {
      List<Future<RawClient.Response>> answers = new ArrayList<>();
      for (int i = 0; i < CLIENTS; i++) {
        int length = 900_000 + i * 100_000;
        answers.add(pool.submit(() -> post(service, path, length, chunked)));
      }
      for (Future<RawClient.Response> answer : answers) {
        RawClient.Response response = answer.get(60, TimeUnit.SECONDS);
        assertThat(response.status()).isEqualTo(expected);
        assertThat(response.header("Connection")).contains("close");
      }
    }
  }

  private static RawClient.Response post(
      HttpService service, String path, int length, boolean chunked) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      OutputStream out = client.socket().getOutputStream();
      client.send("POST " + path + " HTTP/1.1\r\nHost: x\r\n"
          + (chunked ? "Transfer-Encoding: chunked" : "Content-Length: " + length) + "\r\n\r\n");
      byte[] piece = new byte[50_000];
      for (int sent = 0; sent < length; sent += piece.length) {
        if (chunked) {
          client.send(Integer.toHexString(piece.length) + "\r\n");
        }
        out.write(piece, 0, Math.min(piece.length, length - sent));
        if (chunked) {
          client.send("\r\n");
        }
      }
      if (chunked) {
        client.send("0\r\n\r\n");
      }
      return client.read();
    }
  }

  /** Reads the answer first, and does not send the rest: neither it nor one that drips is waited for. */
  @ParameterizedTest
  @ValueSource(strings = {"/deaf", "/streaming", "/empty"})
  void cutsWhoDoesNotSendTheRestInTime(String path) throws Exception {
    try (HttpService service = HttpService.builder(0)
            .lingerTimeout(Duration.ofMillis(100))
            .handle("/deaf", exchange -> HttpResponses.json(exchange, 200, "x"))
            .handle("/streaming", exchange -> {
              exchange.sendResponseHeaders(200, 0);
              exchange.getResponseBody().write('x');
            })
            .handle("/empty", HttpResponses::noContent)
            .start();
        RawClient silent = new RawClient(service.port());
        RawClient dripping = new RawClient(service.port())) {
      String request = "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nx";
      assertThat(silent.send(request).read().status()).isLessThan(300);
      assertThat(dripping.send(request).read().status()).isLessThan(300);
      silent.drainUntilCut();
      Socket socket = dripping.socket();
      assertThatThrownBy(() -> {
            while (true) {
              socket.getOutputStream().write('x');
            }
          })
          .isInstanceOf(IOException.class);
      try (RawClient next = new RawClient(service.port())) {
        assertThat(next.get(path).status()).isLessThan(300);
      }
    }
  }

  @Test
  void stopsReading_afterTheMostBytes() throws Exception {
    assertThat(System.getProperty("sun.net.httpserver.drainAmount")).isEqualTo("16777216");
    try (HttpService service = HttpService.builder(0)
            .maxBody(Long.MAX_VALUE)
            .handle("/deaf", exchange -> HttpResponses.json(exchange, 200, "x"))
            .start();
        RawClient client = new RawClient(service.port())) {
      client.send("POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n");
      assertThat(client.read().status()).isEqualTo(200);
      assertThatThrownBy(() -> {
            byte[] piece = "x".repeat(100_000).getBytes(StandardCharsets.US_ASCII);
            for (int i = 0; i < 9_000; i++) {
              client.socket().getOutputStream().write(piece);
            }
          })
          .isInstanceOf(IOException.class);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1})
  void interruptsWhoeverReadsTooLong_andNobodyAfterwards(int max) throws Exception {
    try (Lingering lingering = new Lingering(max, Duration.ofMillis(20))) {
      Pipe pipe = Pipe.open();
      assertThatThrownBy(() -> lingering.run(() -> {
            assertThat(lingering.count()).isEqualTo(1);
            pipe.source().read(ByteBuffer.allocate(1));
          }))
          .isInstanceOf(ClosedByInterruptException.class);
      assertThat(Thread.currentThread().isInterrupted()).isFalse();
      assertThat(lingering.count()).isZero();
      lingering.run(() -> {});
      pipe.sink().close();
    }
  }

  @Test
  void endsAnswers_whenItIsClosedAlready() throws Exception {
    Lingering lingering = new Lingering(1);
    lingering.close();
    boolean[] ended = new boolean[1];
    lingering.run(() -> ended[0] = true);
    assertThat(ended[0]).isTrue();
  }
}
