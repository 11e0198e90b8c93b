package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BodyLimitTest {
  private final AtomicBoolean handled = new AtomicBoolean();
  private final AtomicLong read = new AtomicLong();
  private HttpService service;

  @BeforeEach
  void start() {
    HttpService.Handler counting = exchange -> {
      handled.set(true);
      byte[] buffer = new byte[8192];
      for (int n; (n = exchange.getRequestBody().read(buffer)) >= 0; ) {
        read.addAndGet(n);
      }
      HttpResponses.json(exchange, 200, read.get());
    };
    service = HttpService.builder(0)
        .handle("/default", counting)
        .handle("/small", counting, HttpFilters.maxBody(10))
        .handle("/large", counting, HttpFilters.maxBody(3 << 20))
        .handle("/unlimited", counting, HttpFilters.maxBody(Long.MAX_VALUE))
        .handle("/nested", HttpFilters.chain(counting, HttpFilters.maxBody(3 << 20)))
        .handle("/deaf", exchange -> HttpResponses.json(exchange, 200, "not read"))
        .handle(
            "/json",
            exchange -> HttpResponses.json(exchange, 200, HttpRequests.json(exchange, Map.class)))
        .handle(
            "/swallowing",
            exchange -> {
              try {
                exchange.getRequestBody().readAllBytes();
              } catch (ServiceException e) {
                throw new IllegalStateException("wrapped", e);
              }
            },
            HttpFilters.maxBody(10))
        .start();
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private static void assertTooLarge(RawClient.Response response) {
    assertThat(response.status()).isEqualTo(413);
    assertThat(response.body())
        .isEqualTo(
            "{\"error\":{\"code\":\"body_too_large\",\"message\":\"request body is too large\"}}\n");
  }

  @Test
  void refusesAnnouncedBody_beforeAByteIsRead() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      assertTooLarge(client
          .send("POST /default HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
          .read());
    }
    assertThat(handled).isFalse();
  }

  @Test
  void takesABodyOfExactlyTheLimit() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      assertThat(client.post("/small", "0123456789").body()).isEqualTo("10\n");
      assertThat(client.send(chunked("/small", "0123456789")).read().status()).isEqualTo(200);
      assertThat(client.get("/small").status()).isEqualTo(200);
    }
  }

  @Test
  void refusesChunkedBody_asSoonAsItIsTooLarge() throws IOException {
    for (String path : new String[] {"/small", "/swallowing"}) {
      try (RawClient client = new RawClient(service.port())) {
        RawClient.Response response = client.send(chunked(path, "0123456789a")).read();
        assertTooLarge(response);
        assertThat(response.header("Connection")).contains("close");
      }
    }
    assertThat(read.get()).isLessThanOrEqualTo(10);
  }

  private static String chunked(String path, String body) {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + Integer.toHexString(body.length()) + "\r\n" + body + "\r\n0\r\n\r\n";
  }

  @Test
  void letsARouteRaiseTheLimit() throws IOException {
    String body = "x".repeat(2 << 20);
    for (String path : new String[] {"/large", "/nested", "/unlimited"}) {
      try (RawClient client = new RawClient(service.port())) {
        assertThat(client.post(path, body).status()).isEqualTo(200);
      }
      try (RawClient client = new RawClient(service.port())) {
        assertThat(client.send(chunked(path, body)).read().status()).isEqualTo(200);
      }
    }
  }

  @Test
  void keepsTheConnection_whenASmallBodyWasNotRead() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 3; i++) {
        assertThat(client.post("/deaf", "unread").body()).isEqualTo("\"not read\"\n");
      }
      assertThat(client.post("/nowhere", "unread").status()).isEqualTo(404);
      assertThat(client.post("/nowhere", "unread").status()).isEqualTo(404);
    }
  }

  @Test
  void handsOnEveryByte_whateverTheLength() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      for (int length : new int[] {9, 2047, 2048, 2049, 5000, 65_535, 65_536, 65_537, 200_000}) {
        StringBuilder text = new StringBuilder("{\"a\":\"");
        for (int i = 0; text.length() < length - 2; i++) {
          text.append((char) ('a' + i % 23));
        }
        String json = text.append("\"}").toString();
        assertThat(client.post("/json", json).body()).as("%d bytes", length).isEqualTo(json + "\n");
      }
    }
  }

  @Test
  void endsTheConnection_whenALargeBodyWasNotRead() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client
          .send("POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n0123456789")
          .read();
      assertThat(response.body()).isEqualTo("\"not read\"\n");
      assertThat(response.header("Connection")).contains("close");
    }
    try (RawClient client = new RawClient(service.port())) {
      assertThat(client.post("/default", "x".repeat(200_000)).header("Connection"))
          .isEmpty();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"zz", "ffffffff", "-1", "80000000", "fffffffffffffff"})
  void answersInvalidBody_whenTheChunksAreMalformed(String size) throws IOException {
    try (CapturedLog log = new CapturedLog(Guard.class)) {
      for (String path : new String[] {"/json", "/deaf"}) {
        try (RawClient client = new RawClient(service.port())) {
          RawClient.Response response = client
              .send("POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  + size + "\r\n{}\r\n")
              .read();
          assertThat(response.status()).isEqualTo(400);
          assertThat(response.header("Connection")).contains("close");
          assertThat(response.body()).contains("\"invalid_body\"", "unable to read request body");
        }
      }
      assertThat(log.messages()).noneMatch(line -> line.startsWith("ERROR"));
    }
  }

  @Test
  void answersInvalidJson() throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      for (String body : new String[] {"{", "null", "{} {}", "[".repeat(100_000)}) {
        RawClient.Response response = client.post("/json", body);
        assertThat(response.status()).isEqualTo(400);
        assertThat(response.body()).contains("\"invalid_json\"").doesNotContain("jackson", " at ");
      }
      assertThat(client.post("/json", "{\"a\":1}").body()).isEqualTo("{\"a\":1}\n");
    }
  }

  @Test
  void endlessChunkedBodyCostsNoMemory() throws IOException {
    sendEndless(64L << 20);
  }

  @Test
  @Tag("soak")
  void longEndlessChunkedBodyCostsNoMemory() throws IOException {
    sendEndless(1L << 30);
  }

  /** Sends until the server cuts the connection: it must have answered 413 and read hardly more than the limit. */
  private void sendEndless(long bytes) throws IOException {
    byte[] chunk = ("10000\r\n" + "x".repeat(0x10000) + "\r\n").getBytes(StandardCharsets.US_ASCII);
    long sent = 0;
    try (RawClient client = new RawClient(service.port())) {
      client.send("POST /default HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
      OutputStream out = client.socket().getOutputStream();
      try {
        while (sent < bytes) {
          out.write(chunk);
          sent += 0x10000;
        }
      } catch (IOException expected) {
        // The server does not read the rest.
      }
    }
    System.out.println("endless body: sent " + sent + " bytes, handler read " + read.get());
    assertThat(sent).isLessThan(bytes);
    assertThat(read.get()).isLessThanOrEqualTo(1 << 20);
    try (RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/deaf").status()).isEqualTo(200);
    }
  }

  @Test
  void handlerCannotReadOn_afterTheLimit() throws IOException {
    AtomicBoolean refusedAgain = new AtomicBoolean();
    try (HttpService stubborn = HttpService.builder(0)
            .maxBody(100_000)
            .handle("/", exchange -> {
              assertThatThrownBy(() -> exchange.getRequestBody().readAllBytes())
                  .isInstanceOf(ServiceException.class);
              assertThatThrownBy(() -> exchange.getRequestBody().read())
                  .isInstanceOf(ServiceException.class);
              refusedAgain.set(true);
              HttpResponses.noContent(exchange);
            })
            .start();
        RawClient client = new RawClient(stubborn.port())) {
      assertThat(client.send(chunked("/", "x".repeat(200_000))).read().status()).isEqualTo(204);
    }
    assertThat(refusedAgain).isTrue();
  }
}
