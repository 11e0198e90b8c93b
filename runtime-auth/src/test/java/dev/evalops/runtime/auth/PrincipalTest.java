package dev.evalops.runtime.auth;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.ServiceException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class PrincipalTest {
  private static final Principal ANN = new Principal(
      "org-1",
      Optional.of("ws-1"),
      "ann",
      Optional.empty(),
      Optional.empty(),
      Optional.of("user"),
      Set.of("notes:read"),
      Optional.empty(),
      true);

  private static Principal principal(String type, Map<String, String> attributes) {
    return Principal.of(
        VerifiedToken.of(new Actor(type, "id-1", "org-1", attributes), Set.of("notes:read")));
  }

  @Test
  void takesOrganizationSubjectScopesAndTokenType_fromTheToken() {
    assertThat(principal("user", Map.of()))
        .isEqualTo(new Principal(
            "org-1",
            Optional.empty(),
            "id-1",
            Optional.empty(),
            Optional.empty(),
            Optional.of("user"),
            Set.of("notes:read"),
            Optional.empty(),
            true));
  }

  @ParameterizedTest
  @CsvSource({
    "workspace_id, workspace",
    "' Workspace_ID ', WORKSPACE",
    "'\u00a0workspace', workspace_id"
  })
  void readsTheWorkspace_underEitherNameInAnyCase(String name, String other) {
    assertThat(principal("user", Map.of(name, " ws-1 ")).workspaceId()).contains("ws-1");
    assertThat(principal("user", Map.of(name, "ws-1", other, "ws-1")).workspaceId())
        .contains("ws-1");
    assertThat(principal("user", Map.of(name, "ws-1", other, " ")).workspaceId())
        .contains("ws-1");
  }

  @Test
  void readsAgentAndUser() {
    Principal agent = principal("agent", Map.of("Agent", "a-1", "USER_SUBJECT", "ann"));
    assertThat(agent.agentId()).contains("a-1");
    assertThat(agent.userSubject()).contains("ann");
    assertThat(principal("agent", Map.of("agent_id", "a-2")).agentId()).contains("a-2");
    assertThat(principal("user", Map.of()).agentId()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "workspace_id, workspace",
    "workspace_id, ' Workspace_Id '",
    "agent_id, agent",
    "agent, AGENT",
    "user_subject, User_Subject"
  })
  void refusesConflictingAttributes_inEveryOrder(String first, String second) {
    for (int i = 0; i < 100; i++) {
      Map<String, String> attributes = new LinkedHashMap<>();
      attributes.put(i % 2 == 0 ? first : second, "one");
      attributes.put(i % 2 == 0 ? second : first, "two");
      attributes.put("filler-" + i, "x");
      assertThatThrownBy(() -> principal("user", attributes))
          .isInstanceOfSatisfying(ServiceException.class, e -> {
            assertThat(e.code().httpStatus()).isEqualTo(403);
            assertThat(ErrorResponse.of(e).toJson())
                .isEqualTo("{\"error\":{\"code\":\"authorization_failed\","
                    + "\"message\":\"conflicting_attributes\"}}\n");
          });
    }
  }

  @Test
  void refusesAUser_whoIsNotTheOneOfTheToken() {
    Actor agent = new Actor("agent", "a-1", "org-1", Map.of("user_subject", "bob"));
    assertThatThrownBy(() -> Principal.of(new VerifiedToken(
            agent, Optional.of("agent"), Optional.empty(), Optional.of("ann"), Set.of(), false)))
        .hasMessageEndingWith("conflicting_attributes");
    assertThat(Principal.of(new VerifiedToken(
                agent, Optional.of("agent"), Optional.empty(), Optional.of("bob"), Set.of(), false))
            .userSubject())
        .contains("bob");
  }

  @Test
  void attributesNeverMakeACallerHumanOrAServiceOrOfAnotherType() {
    Map<String, String> claims = Map.of(
        "token_type",
        "user",
        "is_human",
        "true",
        "service",
        "billing",
        " Service ",
        "other",
        "type",
        "human",
        "subject",
        "root");
    for (String type : Set.of("api_key", "agent")) {
      Principal principal = principal(type, claims);
      assertThat(principal)
          .isEqualTo(new Principal(
              "org-1",
              Optional.empty(),
              "id-1",
              Optional.empty(),
              Optional.empty(),
              Optional.of(type),
              Set.of("notes:read"),
              Optional.empty(),
              false));
      refuses(principal::requireHuman, ErrorCode.FORBIDDEN, "human principal required");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"human", "user", "User", "HUMAN"})
  void typesHumanAndUserAreHuman(String type) {
    assertThat(principal(type, Map.of()).human()).isTrue();
    assertThatCode(principal(type, Map.of())::requireHuman).doesNotThrowAnyException();
  }

  @Test
  void aServiceIsItsSubject_unlessTheTokenNamesIt() {
    assertThat(principal("service", Map.of()).service()).contains("id-1");
    assertThat(principal("agent", Map.of()).service()).isEmpty();
    Actor actor = new Actor("service", "id-1", "org-1");
    assertThat(Principal.of(new VerifiedToken(
                actor,
                Optional.of("service"),
                Optional.of("billing"),
                Optional.empty(),
                Set.of(),
                false))
            .service())
        .contains("billing");
  }

  @Test
  void aProgramWithAUsersTokenIsNotHuman_ifTheVerifierSaysSo() {
    Actor actor = new Actor("user", "ann", "org-1");
    assertThat(Principal.of(new VerifiedToken(
                actor, Optional.of("user"), Optional.empty(), Optional.empty(), Set.of(), false))
            .human())
        .isFalse();
  }

  @Test
  void requiresTheOrganization() {
    assertThatCode(() -> ANN.requireOrganization("org-1")).doesNotThrowAnyException();
    refuses(
        () -> ANN.requireOrganization("org-2"),
        ErrorCode.FORBIDDEN,
        "organization org-2 not authorized");
    refuses(
        () -> ANN.requireOrganization("\u00a0 "),
        ErrorCode.INVALID_INPUT,
        "organization_id is required");
  }

  @Test
  void requiresTheWorkspace_andOneWithoutWorkspacePassesForNone() {
    assertThatCode(() -> ANN.requireWorkspace("ws-1")).doesNotThrowAnyException();
    refuses(
        () -> ANN.requireWorkspace("ws-2"), ErrorCode.FORBIDDEN, "workspace ws-2 not authorized");
    refuses(() -> ANN.requireWorkspace(""), ErrorCode.INVALID_INPUT, "workspace_id is required");
    refuses(() -> ANN.requireWorkspace(null), ErrorCode.INVALID_INPUT, "workspace_id is required");
    refuses(
        () -> ANN.requireOrganization(null),
        ErrorCode.INVALID_INPUT,
        "organization_id is required");
    Principal unbound = principal("user", Map.of());
    refuses(
        () -> unbound.requireWorkspace("ws-1"),
        ErrorCode.FORBIDDEN,
        "workspace ws-1 not authorized");
    refuses(
        () -> unbound.requireWorkspace(""), ErrorCode.INVALID_INPUT, "workspace_id is required");
  }

  @Test
  void requiresAScope() {
    assertThat(ANN.hasScope("notes:read")).isTrue();
    assertThat(ANN.hasScope("notes:write")).isFalse();
    assertThatCode(() -> ANN.requireScope("notes:read")).doesNotThrowAnyException();
    refuses(
        () -> ANN.requireScope("notes:write"),
        ErrorCode.FORBIDDEN,
        "missing scope \"notes:write\"");
  }

  @Test
  void rejectsSelfApproval_asSubjectUserAndAgent() {
    Principal agent = new Principal(
        "org-1",
        Optional.empty(),
        "svc-9",
        Optional.of("ann"),
        Optional.empty(),
        Optional.of("agent"),
        Set.of(),
        Optional.of("a-7"),
        false);
    for (String self : Set.of("svc-9", "ann", "a-7", " ann ", "ann\u00a0")) {
      refuses(
          () -> agent.rejectSelfApproval(self),
          ErrorCode.FORBIDDEN,
          "principal cannot approve its own request");
    }
    assertThatCode(() -> agent.rejectSelfApproval("bob")).doesNotThrowAnyException();
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "\t\u00a0"})
  void aBlankScopeOrRequesterIsAProgrammingError(String blank) {
    Principal any = new Principal(
        "org-1",
        Optional.empty(),
        "ann",
        Optional.empty(),
        Optional.empty(),
        Optional.empty(),
        Set.of(blank),
        Optional.empty(),
        true);
    assertThat(any.hasScope(blank)).isFalse();
    assertThatIllegalArgumentException()
        .isThrownBy(() -> any.requireScope(blank))
        .withMessage("scope must not be blank");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> any.rejectSelfApproval(blank))
        .withMessage("requester must not be blank");
  }

  @Test
  void anActorWithoutTypeIdOrOrganizationIsRefused_withAllProblemsAtOnce() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Actor("", " ", "\u00a0"))
        .withMessage(
            "type must not be blank; id must not be blank; organizationId must not be blank");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new ApiKey("", "", Set.of()))
        .withMessage("id must not be blank; organizationId must not be blank");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Principal(
            "",
            Optional.empty(),
            "",
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Set.of(),
            Optional.empty(),
            false))
        .withMessage("organizationId must not be blank; subject must not be blank");
  }

  @Test
  void namesThatDifferInWhiteSpaceAloneAreRefused() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Actor("user", " ann", "org-1\u00a0"))
        .withMessage("id must not begin or end with white space; organizationId must not begin or"
            + " end with white space");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new ApiKey("key-1\n", "org-1", Set.of()))
        .withMessage("id must not begin or end with white space");
  }

  @Test
  void valuesDoNotChangeWithTheCollectionsThatTheyWereMadeOf() {
    Map<String, String> attributes = new HashMap<>(Map.of("workspace", "ws-1"));
    Actor actor = new Actor("user", "ann", "org-1", attributes);
    attributes.put("workspace", "ws-2");
    assertThat(actor.attributes()).containsExactly(Map.entry("workspace", "ws-1"));
    assertThatThrownBy(() -> actor.attributes().clear())
        .isInstanceOf(UnsupportedOperationException.class);
    assertThatThrownBy(() -> ANN.scopes().clear())
        .isInstanceOf(UnsupportedOperationException.class);
  }

  @Test
  void jsonHasTheNamesOfTheWire_andLeavesOutWhatIsEmpty() {
    JsonMapper json = JsonMapper.shared();
    assertThat(json(json.writeValueAsString(
            new Actor("user", "ann", "org-1", Map.of("workspace_id", "ws-1")))))
        .isEqualTo(json("{\"type\":\"user\",\"id\":\"ann\",\"organization_id\":\"org-1\","
            + "\"attributes\":{\"workspace_id\":\"ws-1\"}}"));
    assertThat(json(json.writeValueAsString(new Actor("user", "ann", "org-1"))))
        .isEqualTo(json("{\"type\":\"user\",\"id\":\"ann\",\"organization_id\":\"org-1\"}"));
    assertThat(json(json.writeValueAsString(new Principal(
            "org-1",
            Optional.of("ws-1"),
            "a-1",
            Optional.of("ann"),
            Optional.of("svc"),
            Optional.of("agent"),
            Set.of("s"),
            Optional.of("a-1"),
            true))))
        .isEqualTo(json("{\"organization_id\":\"org-1\",\"workspace_id\":\"ws-1\",\"subject\":"
            + "\"a-1\",\"user_subject\":\"ann\",\"service\":\"svc\",\"token_type\":\"agent\","
            + "\"scopes\":[\"s\"],\"agent_id\":\"a-1\",\"is_human\":true}"));
    assertThat(json(json.writeValueAsString(new Principal(
            "org-1",
            Optional.empty(),
            "k",
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Set.of(),
            Optional.empty(),
            false))))
        .isEqualTo(json("{\"organization_id\":\"org-1\",\"subject\":\"k\"}"));
  }

  private static JsonNode json(String text) {
    return JsonMapper.shared().readTree(text);
  }

  private static void refuses(ThrowingCallable guard, ErrorCode code, String message) {
    assertThatThrownBy(guard).isInstanceOfSatisfying(ServiceException.class, e -> {
      assertThat(e.code()).isEqualTo(code);
      assertThat(e.code().connectCode())
          .isEqualTo(
              code.equals(ErrorCode.FORBIDDEN)
                  ? ConnectCode.PERMISSION_DENIED
                  : ConnectCode.INVALID_ARGUMENT);
      assertThat(ErrorResponse.of(e).message()).isEqualTo(message);
    });
  }
}
