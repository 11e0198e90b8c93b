package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class HttpResponsesTest {
  record Note(String title, BigDecimal price, Instant at, long version) {}

  record Lengthy(BigInteger n, String text, long version) {}

  static Stream<Arguments> payloads() {
    Note note = new Note("a", new BigDecimal("1.00"), Instant.EPOCH, 7);
    return Stream.of(
        Arguments.of(
            note,
            "\"7\"",
            "{\"title\":\"a\",\"price\":1.00,\"at\":\"1970-01-01T00:00:00Z\",\"version\":7}\n"),
        Arguments.of(Map.of("version", 0), "\"0\"", "{\"version\":0}\n"),
        Arguments.of(
            Map.of("version", BigInteger.TWO.pow(63)),
            "\"9223372036854775808\"",
            "{\"version\":9223372036854775808}\n"),
        Arguments.of(
            new Lengthy(new BigInteger("9".repeat(2000)), "x".repeat(200), 7),
            "\"7\"",
            "{\"n\":" + "9".repeat(2000) + ",\"text\":\"" + "x".repeat(200)
                + "\",\"version\":7}\n"),
        Arguments.of(Map.of("version", "7"), null, "{\"version\":\"7\"}\n"),
        Arguments.of(Map.of("version", 7.5), null, "{\"version\":7.5}\n"),
        Arguments.of(Map.of("note", Map.of("version", 7)), null, "{\"note\":{\"version\":7}}\n"),
        Arguments.of(List.of(Map.of("version", 7)), null, "[{\"version\":7}]\n"),
        Arguments.of("version", null, "\"version\"\n"));
  }

  @ParameterizedTest
  @MethodSource("payloads")
  void answersAMutation_withSequenceAndVersion(Object payload, String etag, String body)
      throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle("/x", exchange -> HttpResponses.mutation(exchange, 201, payload, 42))
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.post("/x", "");
      assertThat(response.status()).isEqualTo(201);
      assertThat(response.header("X-Change-Seq")).contains("42");
      assertThat(response.header("ETag")).isEqualTo(java.util.Optional.ofNullable(etag));
      assertThat(response.header("Content-Type")).contains("application/json");
      assertThat(response.body()).isEqualTo(body);
    }
  }

  @Test
  void writesAnErrorForAFilterThatGoesOn() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle(
                "/x",
                exchange -> HttpResponses.error(
                    exchange, ServiceException.of(ErrorCode.CONFLICT, "taken").op("x")))
            .handle(
                "/empty", exchange -> HttpResponses.bytes(exchange, 200, "text/plain", new byte[0]))
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").body())
          .isEqualTo("{\"error\":{\"code\":\"conflict\",\"message\":\"taken\"}}\n");
      assertThat(client.get("/empty").header("Content-Length")).contains("0");
      assertThat(client.get("/empty").body()).isEmpty();
    }
  }
}
