package dev.evalops.runtime.identity.proto;

import com.google.protobuf.Timestamp;
import dev.evalops.runtime.identity.Introspection;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.Optional;

/** Converts an {@link Introspection} to its protobuf message and back. */
public final class ProtoIntrospection {
  private ProtoIntrospection() {}

  /**
   * Returns the message of an introspection.
   *
   * @param introspection what the identity service said
   * @return the same as {@code identity.v1.IntrospectResponse}
   */
  public static IntrospectResponse toProto(Introspection introspection) {
    IntrospectResponse.Builder message = IntrospectResponse.newBuilder()
        .setActive(introspection.active())
        .setSubject(introspection.subject().orElse(""))
        .setTokenType(introspection.tokenType().orElse(""))
        .setService(introspection.service().orElse(""))
        .setOrganizationId(introspection.organizationId().orElse(""))
        .addAllScopes(introspection.scopes())
        .setAgentType(introspection.agentType().orElse(""))
        .addAllCapabilities(introspection.capabilities())
        .setRunId(introspection.runId().orElse(""))
        .setSurface(introspection.surface().orElse(""))
        .setUserSubject(introspection.userSubject().orElse(""))
        .setEmail(introspection.email().orElse(""))
        .setName(introspection.name().orElse(""));
    introspection.expiresAt().map(ProtoIntrospection::timestamp).ifPresent(message::setExpiresAt);
    introspection.issuedAt().map(ProtoIntrospection::timestamp).ifPresent(message::setIssuedAt);
    return message.build();
  }

  /**
   * Returns the introspection in a message.
   *
   * @param message an {@code identity.v1.IntrospectResponse}
   * @return the same as a record; a blank text is absent
   * @throws IllegalArgumentException if a time in it is out of range
   */
  public static Introspection fromProto(IntrospectResponse message) {
    return new Introspection(
        message.getActive(),
        Optional.of(message.getSubject()),
        Optional.of(message.getTokenType()),
        Optional.of(message.getService()),
        Optional.of(message.getOrganizationId()),
        message.getScopesList(),
        Optional.of(message.getAgentType()),
        message.getCapabilitiesList(),
        Optional.of(message.getRunId()),
        Optional.of(message.getSurface()),
        Optional.of(message.getUserSubject()),
        Optional.of(message.getEmail()),
        Optional.of(message.getName()),
        message.hasExpiresAt()
            ? Optional.of(instant("expires_at", message.getExpiresAt()))
            : Optional.empty(),
        message.hasIssuedAt()
            ? Optional.of(instant("issued_at", message.getIssuedAt()))
            : Optional.empty());
  }

  private static Timestamp timestamp(Instant instant) {
    return Timestamp.newBuilder()
        .setSeconds(instant.getEpochSecond())
        .setNanos(instant.getNano())
        .build();
  }

  private static Instant instant(String field, Timestamp timestamp) {
    try {
      return Instant.ofEpochSecond(timestamp.getSeconds(), timestamp.getNanos());
    } catch (DateTimeException | ArithmeticException e) {
      throw new IllegalArgumentException(field + " is out of range", e);
    }
  }
}
