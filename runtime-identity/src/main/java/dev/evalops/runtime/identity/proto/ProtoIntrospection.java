package dev.evalops.runtime.identity.proto;

import com.google.protobuf.Timestamp;
import dev.evalops.runtime.identity.Introspection;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.Optional;

/** Turns an {@link Introspection} into its protobuf message and back. Nothing is lost on the way. */
public final class ProtoIntrospection {
  private ProtoIntrospection() {}

  /**
   * Writes the message.
   *
   * @param introspection what the identity service said
   * @return the same as {@code identity.v1.IntrospectResponse}
   */
  public static IntrospectResponse toProto(Introspection introspection) {
    IntrospectResponse.Builder message = IntrospectResponse.newBuilder()
        .setActive(introspection.active())
        .setSubject(introspection.subject())
        .setTokenType(introspection.tokenType())
        .setService(introspection.service())
        .setOrganizationId(introspection.organizationId())
        .addAllScopes(introspection.scopes())
        .setAgentType(introspection.agentType())
        .addAllCapabilities(introspection.capabilities())
        .setRunId(introspection.runId())
        .setSurface(introspection.surface())
        .setUserSubject(introspection.userSubject())
        .setEmail(introspection.email())
        .setName(introspection.name());
    introspection.expiresAt().map(ProtoIntrospection::timestamp).ifPresent(message::setExpiresAt);
    introspection.issuedAt().map(ProtoIntrospection::timestamp).ifPresent(message::setIssuedAt);
    return message.build();
  }

  /**
   * Reads the message.
   *
   * @param message an {@code identity.v1.IntrospectResponse}
   * @return the same as a record
   * @throws IllegalArgumentException if a time in it is out of range
   */
  public static Introspection fromProto(IntrospectResponse message) {
    return new Introspection(
        message.getActive(),
        message.getSubject(),
        message.getTokenType(),
        message.getService(),
        message.getOrganizationId(),
        message.getScopesList(),
        message.getAgentType(),
        message.getCapabilitiesList(),
        message.getRunId(),
        message.getSurface(),
        message.getUserSubject(),
        message.getEmail(),
        message.getName(),
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
