package dev.evalops.runtime.identity.proto;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Timestamp;
import dev.evalops.runtime.identity.Introspection;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class ProtoIntrospectionTest {
  private static final Introspection FULL = new Introspection(
      true,
      Optional.of("subject"),
      Optional.of("user"),
      Optional.of("billing"),
      Optional.of("org-1"),
      List.of("b", "a", "b"),
      Optional.of("coder"),
      List.of("shell"),
      Optional.of("run-3"),
      Optional.of("codex"),
      Optional.of("user:9"),
      Optional.of("ada@example.org"),
      Optional.of("Ada"),
      Optional.of(Instant.parse("2030-01-02T03:04:05.123456789Z")),
      Optional.of(Instant.parse("2026-01-02T03:04:05Z")));

  @Test
  void nothingIsLostOnTheWay() throws Exception {
    IntrospectResponse message =
        IntrospectResponse.parseFrom(ProtoIntrospection.toProto(FULL).toByteArray());
    assertThat(ProtoIntrospection.fromProto(message)).isEqualTo(FULL);
  }

  @Test
  void whatIsAbsentStaysAbsent() {
    Introspection empty = ProtoIntrospection.fromProto(
        IntrospectResponse.newBuilder().setActive(true).build());
    assertThat(empty.service()).isEmpty();
    assertThat(empty.agentType()).isEmpty();
    assertThat(empty.runId()).isEmpty();
    assertThat(empty.surface()).isEmpty();
    assertThat(empty.userSubject()).isEmpty();
    assertThat(empty.email()).isEmpty();
    assertThat(empty.name()).isEmpty();
    assertThat(empty.expiresAt()).isEmpty();
    assertThat(empty.issuedAt()).isEmpty();
    assertThat(ProtoIntrospection.toProto(empty))
        .isEqualTo(IntrospectResponse.newBuilder().setActive(true).build());
  }

  @Test
  void fieldsHaveTheNumbersOfTheContract() {
    assertThat(IntrospectResponse.getDescriptor().getFullName())
        .isEqualTo("identity.v1.IntrospectResponse");
    assertThat(IntrospectResponse.getDescriptor().getFields())
        .extracting(FieldDescriptor::getNumber)
        .containsExactly(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    assertThat(IntrospectResponse.getDescriptor().getFields())
        .extracting(FieldDescriptor::getName)
        .containsExactly(
            "active",
            "subject",
            "token_type",
            "service",
            "organization_id",
            "scopes",
            "agent_type",
            "capabilities",
            "run_id",
            "surface",
            "user_subject",
            "email",
            "name",
            "expires_at",
            "issued_at");
  }

  @Test
  void refusesATimeOutOfRange() {
    IntrospectResponse message = IntrospectResponse.newBuilder()
        .setIssuedAt(Timestamp.newBuilder().setSeconds(Long.MAX_VALUE))
        .build();
    assertThatThrownBy(() -> ProtoIntrospection.fromProto(message))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("issued_at is out of range");
  }
}
