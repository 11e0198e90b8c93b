package dev.evalops.runtime.idempotency;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.idempotency.Idempotency.Scope;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/idempotency/idempotency.sql")
class IdempotencyTest {
  @Test
  void hashesAsTheServicesInGoDo() throws IOException {
    try (InputStream in = IdempotencyTest.class.getResourceAsStream("/request_hash.json")) {
      JsonNode cases = JsonMapper.shared().readTree(in).get("cases");
      assertThat(cases.size()).isGreaterThan(5);
      for (JsonNode one : cases) {
        JsonNode input = one.get("input");
        assertThat(Idempotency.requestHash(
                input.get("method").stringValue(),
                input.get("path").stringValue(),
                null,
                Base64.getDecoder().decode(input.get("body_base64").stringValue())))
            .isEqualTo(one.get("expected").stringValue());
      }
    }
  }

  @Test
  void hashesTheQueryAsPartOfThePath() {
    byte[] body = "b".getBytes(StandardCharsets.UTF_8);

    assertThat(Idempotency.requestHash("POST", "/a", "dry_run=true", body))
        .isEqualTo(Idempotency.requestHash("POST", "/a?dry_run=true", null, body))
        .isNotEqualTo(Idempotency.requestHash("POST", "/a", null, body));
    assertThat(Idempotency.requestHash("POST", "/a", "", body))
        .isEqualTo(Idempotency.requestHash("POST", "/a", null, body));
  }

  @Test
  void scopesKeysByActor_orAsTheServicesInGoDo() {
    Actor actor = new Actor("user", "a:b%", "org:1");

    assertThat(Scope.ACTOR.of(actor, "POST", "/v1/x:y"))
        .isEqualTo("org%3A1:user:a%3Ab%25:POST:/v1/x:y");
    assertThat(Scope.ORGANIZATION.of(actor, "POST", "/v1/x:y")).isEqualTo("org:1:POST:/v1/x:y");
  }

  @Test
  void isUnavailable_whenThePoolIsClosed(HikariDataSource db) {
    Idempotency idempotency = Idempotency.of(db);
    db.close();

    assertThatThrownBy(() -> idempotency.begin("s", "k", "h"))
        .isInstanceOfSatisfying(
            ServiceException.class,
            failure -> assertThat(failure.code()).isEqualTo(ErrorCode.UNAVAILABLE));
  }

  @Test
  void decidesWithoutAnyTransport(HikariDataSource db) {
    Idempotency idempotency = Idempotency.of(db);
    StoredResponse response = new StoredResponse(200, "", Map.of(), new byte[] {1});

    IdempotencyStore.Claim claim =
        ((IdempotencyStore.Started) idempotency.begin("s", " k ", "h")).claim();
    assertThat(claim.key()).isEqualTo("k");
    assertThat(idempotency.begin("s", "k", "h")).isEqualTo(new IdempotencyStore.InProgress());
    assertThat(idempotency.finish(claim, new StoredResponse(500, "", Map.of(), new byte[0])))
        .isTrue();

    claim = ((IdempotencyStore.Started) idempotency.begin("s", "k", "h")).claim();
    assertThat(idempotency.finish(claim, response)).isTrue();
    idempotency.release(claim);
    assertThat(idempotency.begin("s", "k", "h")).isEqualTo(new IdempotencyStore.Replay(response));
    assertThat(idempotency.begin("s", "k", "x")).isEqualTo(new IdempotencyStore.Conflict());

    assertThatThrownBy(() -> idempotency.begin("s", null, "h"))
        .isInstanceOf(ServiceException.class)
        .hasMessageContaining("Idempotency-Key header is required");
    assertThatThrownBy(() -> idempotency.begin("s", "k".repeat(256), "h"))
        .hasMessageContaining("255");
    assertThatThrownBy(() -> idempotency.begin("s", "a\tb", "h"))
        .hasMessageContaining("printable ASCII");
    assertThatThrownBy(() -> idempotency.begin("s".repeat(2001), "k", "h"))
        .hasMessageContaining("too long");
  }

  /** Or one key would be two to services in Go and Java that share the table. */
  @Test
  void aKeyIsTrimmedByTheRuleOfOurServices(HikariDataSource db) {
    Idempotency idempotency = Idempotency.of(db);

    assertThat(((IdempotencyStore.Started) idempotency.begin("s", "\u00a0\u0085k\u2007\t", "h"))
            .claim()
            .key())
        .isEqualTo("k");
    assertThatThrownBy(() -> idempotency.begin("s", "\u00a0\u0085", "h"))
        .isInstanceOf(ServiceException.class)
        .hasMessageContaining("Idempotency-Key header is required");
    assertThatThrownBy(() -> idempotency.begin("s", "\u001ck", "h"))
        .isInstanceOf(ServiceException.class)
        .hasMessageContaining("printable ASCII");
  }

  @Test
  void namesEveryWrongSetting(HikariDataSource db) {
    assertThatThrownBy(() -> Idempotency.builder(db)
            .leaseFor(Duration.ZERO)
            .keepFor(Duration.ofDays(-1))
            .maxBody(-1)
            .maxResponse(Integer.MAX_VALUE)
            .build())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContainingAll(
            "leaseFor must", "keepFor must", "maxBody must", "maxResponse must");
    assertThatThrownBy(() -> Idempotency.builder(db)
            .leaseFor(Duration.ofMinutes(2))
            .keepFor(Duration.ofMinutes(1))
            .build())
        .hasMessage("keepFor must be from the lease to 100 years: PT1M");
  }

  @Test
  void aStoredResponseTellsNothingOfItsBody() {
    StoredResponse response = new StoredResponse(
        200, "text/plain", Map.of("Location", "secret"), "secret".getBytes(StandardCharsets.UTF_8));

    assertThat(response.toString())
        .isEqualTo("StoredResponse[status=200, contentType=text/plain, body=6 bytes]");
    assertThatThrownBy(() -> new StoredResponse(101, "", Map.of(), new byte[0]))
        .hasMessage("status must be between 200 and 599: 101");
  }
}
