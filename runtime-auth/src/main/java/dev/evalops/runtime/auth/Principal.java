package dev.evalops.runtime.auth;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * Who calls, as far as access is concerned, with the questions that a handler asks about it. A question that is
 * answered with no throws a {@link ServiceException} of 403 {@code forbidden}.
 *
 * <p>Organization and subject are those of the {@link Actor}; token type, service and humanity come from the {@link
 * VerifiedToken} alone. The attributes {@code workspace_id or workspace}, {@code agent_id or agent} and {@code
 * user_subject} of the actor, in any case and with white space around, give the workspace, the agent and, where the
 * token names none, the user. A caller for whom two of them contradict each other is refused.
 *
 * <p>Jackson writes {@code organization_id}, and what is not empty of {@code workspace_id}, {@code subject}, {@code
 * user_subject}, {@code service}, {@code token_type}, {@code scopes}, {@code agent_id} and {@code is_human}.
 *
 * @param organizationId the organization; not blank
 * @param workspaceId the workspace, if the caller is bound to one
 * @param subject who calls; not blank
 * @param userSubject on whose behalf, if on anybody's
 * @param service the service that calls, if one does
 * @param tokenType what kind of token or key came with the request, if it says
 * @param scopes all scopes of the token or key
 * @param agentId the agent that calls, if one does
 * @param human whether a human being calls, and not a program on their behalf
 */
public record Principal(
    @JsonProperty("organization_id") String organizationId,

    @JsonProperty("workspace_id") @JsonInclude(JsonInclude.Include.NON_EMPTY)
    Optional<String> workspaceId,

    String subject,

    @JsonProperty("user_subject") @JsonInclude(JsonInclude.Include.NON_EMPTY)
    Optional<String> userSubject,

    @JsonInclude(JsonInclude.Include.NON_EMPTY) Optional<String> service,

    @JsonProperty("token_type") @JsonInclude(JsonInclude.Include.NON_EMPTY)
    Optional<String> tokenType,

    @JsonInclude(JsonInclude.Include.NON_EMPTY) Set<String> scopes,

    @JsonProperty("agent_id") @JsonInclude(JsonInclude.Include.NON_EMPTY)
    Optional<String> agentId,

    @JsonProperty("is_human") @JsonInclude(JsonInclude.Include.NON_DEFAULT)
    boolean human) {

  /** The attributes that are read, in lower case. */
  private static final Set<String> READ =
      Set.of("workspace_id", "workspace", "agent_id", "agent", "user_subject");

  /**
   * Checks the values and copies the scopes. An optional text that is blank becomes empty.
   *
   * @throws IllegalArgumentException if organization or subject are blank; the message names each of them
   */
  public Principal {
    workspaceId = Text.unblank("workspaceId", workspaceId);
    userSubject = Text.unblank("userSubject", userSubject);
    service = Text.unblank("service", service);
    tokenType = Text.unblank("tokenType", tokenType);
    scopes = Set.copyOf(Objects.requireNonNull(scopes, "scopes"));
    agentId = Text.unblank("agentId", agentId);
    Actor.requireNotBlank("organizationId", organizationId, "subject", subject);
  }

  /**
   * Returns who calls.
   *
   * @param exchange the exchange of a request that {@link Auth#require} has let pass
   * @return the principal
   * @throws IllegalStateException if no filter of {@link Auth#require} is in front of the handler
   */
  public static Principal of(HttpExchange exchange) {
    return find(exchange).orElseThrow(Auth::nobody);
  }

  /**
   * Returns who calls, if that is known: for filters and handlers that also serve routes without auth.
   *
   * @param exchange an exchange of {@code HttpService} or {@code HttpFilters.chain}
   * @return the principal, or empty if no filter of {@link Auth#require} has let the request pass (yet)
   */
  public static Optional<Principal> find(HttpExchange exchange) {
    return Auth.caller(exchange).map(Auth.Caller::principal);
  }

  static Principal of(VerifiedToken token) {
    Actor actor = token.actor();
    Map<String, String> read = read(actor.attributes());
    boolean isService = token.service().isEmpty() && actor.type().equalsIgnoreCase("service");
    return new Principal(
        actor.organizationId(),
        agreed(read, Optional.empty(), "workspace_id", "workspace"),
        actor.id(),
        agreed(read, token.userSubject(), "user_subject"),
        isService ? Optional.of(actor.id()) : token.service(),
        token.tokenType(),
        token.scopes(),
        agreed(read, Optional.empty(), "agent_id", "agent"),
        token.human());
  }

  private static Map<String, String> read(Map<String, String> attributes) {
    if (attributes.isEmpty()) {
      return Map.of();
    }
    Map<String, String> read = new TreeMap<>();
    attributes.forEach((rawName, rawValue) -> {
      String name = Text.trim(rawName).toLowerCase(Locale.ROOT);
      String value = Text.trim(rawValue);
      if (READ.contains(name) && !value.isEmpty()) {
        requireEqual(name, value, read.putIfAbsent(name, value));
      }
    });
    return read;
  }

  private static Optional<String> agreed(
      Map<String, String> read, Optional<String> verified, String... names) {
    Optional<String> agreed = verified;
    for (String name : names) {
      String value = read.get(name);
      if (value != null) {
        requireEqual(name, value, agreed.orElse(null));
        agreed = Optional.of(value);
      }
    }
    return agreed;
  }

  private static void requireEqual(String name, String value, @Nullable String other) {
    if (other != null && !other.equals(value)) {
      throw ServiceException.of(Auth.FORBIDDEN, "conflicting_attributes")
          .op("auth.principal (attribute " + name + ")");
    }
  }

  /**
   * Whether the caller has a scope.
   *
   * @param scope the scope
   * @return false for a blank one, too
   */
  public boolean hasScope(String scope) {
    return Auth.hasAllScopes(scopes, List.of(scope));
  }

  /**
   * Lets the organization of the caller pass.
   *
   * @param requested the organization that the request is about
   * @throws ServiceException {@code organization X not authorized} (403) for another one; {@code organization_id is
   *     required} (400) if it is blank or null
   */
  public void requireOrganization(@Nullable String requested) {
    require("organization", "organization_id", requested, organizationId);
  }

  /**
   * Lets the workspace of the caller pass. A caller that is bound to no workspace passes for none.
   *
   * @param requested the workspace that the request is about
   * @throws ServiceException {@code workspace X not authorized} (403) for another one; {@code workspace_id is required}
   *     (400) if it is blank or null
   */
  public void requireWorkspace(@Nullable String requested) {
    require("workspace", "workspace_id", requested, workspaceId.orElse(null));
  }

  private static void require(
      String what, String field, @Nullable String requested, @Nullable String own) {
    if (requested == null || Text.isBlank(requested)) {
      throw ServiceException.of(ErrorCode.INVALID_INPUT, field + " is required")
          .op("auth.require_" + what);
    }
    if (!requested.equals(own)) {
      throw refused("require_" + what, what + " " + requested + " not authorized");
    }
  }

  /**
   * Lets callers with this scope pass.
   *
   * @param scope the scope
   * @throws ServiceException {@code missing scope "X"} (403) if the caller does not have it
   * @throws IllegalArgumentException if it is blank
   */
  public void requireScope(String scope) {
    Actor.requireNotBlank("scope", scope);
    if (!scopes.contains(scope)) {
      throw refused("require_scope", "missing scope \"" + scope + "\"");
    }
  }

  /**
   * Lets human beings pass.
   *
   * @throws ServiceException {@code human principal required} (403) if a program calls
   */
  public void requireHuman() {
    if (!human) {
      throw refused("require_human", "human principal required");
    }
  }

  /**
   * Keeps callers from approving what they have asked for themselves: as the subject, as the user on whose behalf the
   * subject calls, or as the agent.
   *
   * @param requester the subject, user or agent that asked for the approval
   * @throws ServiceException {@code principal cannot approve its own request} (403) if that is the caller
   * @throws IllegalArgumentException if it is blank
   */
  public void rejectSelfApproval(String requester) {
    Actor.requireNotBlank("requester", requester);
    String asked = Text.trim(requester);
    boolean own = Stream.of(Optional.of(subject), userSubject, agentId)
        .flatMap(Optional::stream)
        .anyMatch(self -> asked.equals(Text.trim(self)));
    if (own) {
      throw refused("reject_self_approval", "principal cannot approve its own request");
    }
  }

  private static ServiceException refused(String op, String message) {
    return ServiceException.of(ErrorCode.FORBIDDEN, message).op("auth." + op);
  }
}
