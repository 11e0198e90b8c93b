package dev.evalops.runtime.auth;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpRequest;
import java.sql.SQLTransientConnectionException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/** What auth decides, without a server. */
class AuthTest {
  private static final String TOKEN = "s3cr3t-token-of-ann";
  private static final VerifiedToken ANN =
      VerifiedToken.of(new Actor("user", "ann", "org-1"), Set.of("notes:read"));

  private static Auth verifying(TokenVerifier verifier) {
    return Auth.of(verifier);
  }

  private static ServiceException refusal(Auth auth, String header, String... scopes) {
    return catchThrowableOfType(
        ServiceException.class, () -> auth.authenticate(header, Set.of(scopes)));
  }

  private static String body(ServiceException refusal) {
    return refusal.code().httpStatus() + " "
        + ErrorResponse.of(refusal).toJson().strip();
  }

  private static String error(int status, String code, String message) {
    return status + " {\"error\":{\"code\":\"" + code + "\",\"message\":\"" + message + "\"}}";
  }

  static List<JsonNode> headers() throws IOException {
    return Vectors.cases("bearer_token.json");
  }

  @ParameterizedTest
  @MethodSource("headers")
  void findsTheTokenInTheHeader(JsonNode vector) {
    JsonNode expected = vector.get("expected");
    assertThat(Auth.bearerToken(vector.get("input").asString()))
        .isEqualTo(expected.isNull() ? Optional.empty() : Optional.of(expected.asString()));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "Basic YTpi",
        "Bearer",
        "Bearer \t\u00a0",
        "Bearer\tx",
        "Bearer\u00a0x",
        "BearerX y",
        "token"
      })
  void asksForAToken_whenThereIsNone(String header) {
    Auth auth = verifying((token, scopes) -> {
      throw new AssertionError("nothing to verify");
    });
    ServiceException refusal = refusal(auth, header, "notes:read");
    assertThat(body(refusal))
        .isEqualTo(error(401, "missing_authorization", "Authorization bearer token is required"));
    assertThat(Auth.challenge(refusal, Set.of("notes:read"))).contains("Bearer");
    assertThatThrownBy(() -> auth.authenticate(null, Set.of()))
        .hasMessageEndingWith("Authorization bearer token is required");
  }

  @Property
  void noHeaderPassesThatTheVerifierDoesNotKnow(@ForAll String header) {
    Auth auth = verifying((token, scopes) -> {
      assertThat(token).matches("[ -~]+").isEqualTo(token.strip());
      return Optional.empty();
    });
    for (String value : List.of(header, "Bearer " + header, "bEARER  " + header + " ")) {
      assertThat(refusal(auth, value).code().httpStatus()).isEqualTo(401);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"a\u0000b", "a\tb", "a\u007f", "t\u00f6ken", "a\u0085b"})
  void aTokenThatCannotBeOneIsInvalid_andNoOutage(String token) {
    Auth auth = Auth.builder()
        .tokens((t, scopes) -> {
          throw new AssertionError("not to be verified");
        })
        .apiKeys(key -> {
          throw new AssertionError("not to be validated");
        })
        .build();
    assertThat(body(refusal(auth, "Bearer " + token)))
        .isEqualTo(error(401, "authorization_failed", "invalid_token"));
    assertThat(body(refusal(auth, "Bearer pk_" + token)))
        .isEqualTo(error(401, "authorization_failed", "invalid_token"));
  }

  @Test
  void passesTokenAndScopesToTheVerifier_andSaysWhoCalls() {
    List<Object> seen = new ArrayList<>();
    Auth auth = verifying((token, scopes) -> {
      seen.add(token);
      seen.add(scopes);
      return Optional.of(ANN);
    });
    Auth.Caller caller = auth.authenticate("bearer  " + TOKEN + " ", Set.of("notes:read"));
    assertThat(seen).containsExactly(TOKEN, Set.of("notes:read"));
    assertThat(caller.actor()).isEqualTo(new Actor("user", "ann", "org-1"));
    assertThat(caller.principal().subject()).isEqualTo("ann");
    assertThat(caller.principal().human()).isTrue();
    assertThat(caller.toString()).doesNotContain(TOKEN);
    assertThat(auth.authenticate("Bearer " + TOKEN, Set.of()).actor()).isEqualTo(caller.actor());
  }

  @Test
  void scopesAreCheckedAgain_whateverTheVerifierDid() {
    Auth careless = verifying((token, scopes) -> Optional.of(ANN));
    Set<String> required = Set.of("notes:write", "notes:read", "admin");
    ServiceException refusal =
        refusal(careless, "Bearer " + TOKEN, required.toArray(String[]::new));
    assertThat(body(refusal))
        .isEqualTo(
            error(403, "authorization_failed", "missing_required_scopes: admin notes:write"));
    assertThat(Auth.challenge(refusal, required))
        .contains("Bearer error=\"insufficient_scope\", scope=\"admin notes:read notes:write\"");

    Auth meddling = verifying((token, scopes) -> {
      scopes.clear();
      return Optional.of(ANN);
    });
    assertThat(refusal(meddling, "Bearer " + TOKEN, "notes:write").code().httpStatus())
        .isEqualTo(503);
  }

  @Test
  void anEmptyScopeIsNeverSatisfied() {
    assertThat(Auth.hasAllScopes(List.of("a", "b"), List.of("b", "a"))).isTrue();
    assertThat(Auth.hasAllScopes(Set.of("a"), Set.of())).isTrue();
    assertThat(Auth.hasAllScopes(Set.of(), Set.of())).isTrue();
    assertThat(Auth.hasAllScopes(Set.of("a"), Set.of("a", "b"))).isFalse();
    assertThat(Auth.hasAllScopes(Set.of("A"), Set.of("a"))).isFalse();
    assertThat(Auth.hasAllScopes(Set.of("a", "", " "), Set.of(""))).isFalse();
    assertThat(Auth.hasAllScopes(Set.of("a", "", " "), Set.of(" "))).isFalse();
    assertThat(Auth.hasAllScopes(Set.of("a", "", " "), Set.of("a", "\u00a0"))).isFalse();
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "a b", "a\"", "a\\", "a\r\nX-Evil: 1", "\u00e4"})
  void refusesAScopeThatCannotBeOne(String scope) {
    Auth auth = verifying((token, scopes) -> Optional.of(ANN));
    assertThatIllegalArgumentException()
        .isThrownBy(() -> auth.require("notes:read", scope))
        .withMessageStartingWith("scopes must be ");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> auth.authenticate("Bearer x", Set.of(scope)))
        .withMessageStartingWith("scopes must be ");
  }

  @Test
  void anInvalidTokenIs401() {
    ServiceException refusal =
        refusal(verifying((token, scopes) -> Optional.empty()), "Bearer " + TOKEN);
    assertThat(body(refusal)).isEqualTo(error(401, "authorization_failed", "invalid_token"));
    assertThat(Auth.challenge(refusal, Set.of())).contains("Bearer error=\"invalid_token\"");
  }

  static List<Exception> outages() {
    String secret = "identity_request: Post \"https://identity.internal\": dial tcp 10.0.0.7:443";
    return List.of(
        new IOException(secret),
        new ConnectException(secret),
        new SQLTransientConnectionException(secret),
        new IllegalStateException(secret),
        new NullPointerException(secret),
        ServiceException.of(ErrorCode.UNAVAILABLE, secret).op("identity"),
        ServiceException.of(ErrorCode.INTERNAL_ERROR, secret).op("identity"),
        ServiceException.of(ErrorCode.RATE_LIMITED, secret).op("identity"),
        // Somebody else's 401: the service's own credentials, for example.
        new IllegalStateException(
            secret, ServiceException.of(ErrorCode.UNAUTHORIZED, secret).op("identity")));
  }

  @ParameterizedTest
  @MethodSource("outages")
  void anOutageIs503AndNeverSaysWhy(Exception outage) {
    Auth auth = Auth.builder()
        .tokens((token, scopes) -> {
          throw outage;
        })
        .apiKeys(key -> {
          throw outage;
        })
        .build();
    for (String token : List.of(TOKEN, "pk_live")) {
      ServiceException refusal = refusal(auth, "Bearer " + token);
      assertThat(body(refusal)).isEqualTo(error(503, "unavailable", "service unavailable"));
      assertThat(refusal).hasCause(outage);
      assertThat(Auth.challenge(refusal, Set.of())).isEmpty();
    }
  }

  @Test
  void aVerifierThatReturnsNullIs503() {
    Auth auth =
        Auth.builder().tokens((token, scopes) -> null).apiKeys(key -> null).build();
    for (String token : List.of(TOKEN, "pk_live")) {
      ServiceException refusal = refusal(auth, "Bearer " + token);
      assertThat(body(refusal)).isEqualTo(error(503, "unavailable", "service unavailable"));
      assertThat(refusal).hasCauseInstanceOf(NullPointerException.class);
    }
  }

  @Test
  void aRuleForForbiddenThatFailsSaysNo() {
    RuntimeException outage = new IllegalStateException("down");
    RuntimeException broken = new IllegalArgumentException("not known");
    for (RuntimeException thrown : List.of(outage, broken)) {
      Auth auth = Auth.builder()
          .tokens((token, scopes) -> {
            throw outage;
          })
          .forbiddenWhen(failure -> {
            throw thrown;
          })
          .build();
      ServiceException refusal = refusal(auth, "Bearer " + TOKEN);
      assertThat(body(refusal)).isEqualTo(error(503, "unavailable", "service unavailable"));
      assertThat(refusal).hasCause(outage);
    }
    assertThat(outage).hasSuppressedException(broken);
  }

  @Test
  void aServiceExceptionOf401Or403IsAnswered_withItsOwnMessage() {
    ServiceException expired = refusal(
        verifying((token, scopes) -> {
          throw ServiceException.of(ErrorCode.UNAUTHORIZED, "token expired").op("jwt");
        }),
        "Bearer " + TOKEN);
    assertThat(body(expired)).isEqualTo(error(401, "authorization_failed", "token expired"));
    assertThat(Auth.challenge(expired, Set.of())).contains("Bearer error=\"invalid_token\"");

    ServiceException suspended = refusal(
        verifying((token, scopes) -> {
          throw ServiceException.of(ErrorCode.FORBIDDEN, "organization suspended")
              .op("jwt");
        }),
        "Bearer " + TOKEN);
    assertThat(body(suspended))
        .isEqualTo(error(403, "authorization_failed", "organization suspended"));
    assertThat(Auth.challenge(suspended, Set.of())).isEmpty();
  }

  @Test
  void aRuleForForbiddenAddsToTheBuiltInOnes() {
    Exception[] failure = {new SecurityException("user ann of 10.0.0.7 is locked")};
    Auth auth = Auth.builder()
        .tokens((token, scopes) -> {
          throw failure[0];
        })
        .apiKeys(key -> Optional.of(new ApiKey("key-1", "org-1", Set.of("notes:read"))))
        .forbiddenWhen(e -> e instanceof SecurityException)
        .build();
    assertThat(body(refusal(auth, "Bearer " + TOKEN)))
        .isEqualTo(error(403, "authorization_failed", "forbidden"));
    failure[0] = ServiceException.of(ErrorCode.FORBIDDEN).op("jwt");
    assertThat(refusal(auth, "Bearer " + TOKEN).code().httpStatus()).isEqualTo(403);
    failure[0] = new IOException();
    assertThat(refusal(auth, "Bearer " + TOKEN).code().httpStatus()).isEqualTo(503);
    assertThat(body(refusal(auth, "Bearer pk_live", "notes:write")))
        .isEqualTo(error(403, "authorization_failed", "missing_required_scopes: notes:write"));
  }

  @Test
  void aRuleForForbiddenMayTurn401Into403() {
    Auth auth = Auth.builder()
        .tokens((token, scopes) -> {
          throw ServiceException.of(ErrorCode.UNAUTHORIZED, "token revoked").op("jwt");
        })
        .forbiddenWhen(e -> true)
        .build();
    assertThat(body(refusal(auth, "Bearer " + TOKEN)))
        .isEqualTo(error(403, "authorization_failed", "token revoked"));
  }

  @Test
  void anApiKeyHasAllRequiredScopes_orIsRefused() {
    List<String> keys = new ArrayList<>();
    Auth auth = Auth.builder()
        .tokens((token, scopes) -> {
          throw new AssertionError("not a token");
        })
        .apiKeys(key -> {
          keys.add(key);
          return key.equals("pk_live")
              ? Optional.of(
                  new ApiKey("key-1", "org-1", Set.of("notes:read"), Map.of("workspace", "ws-1")))
              : Optional.empty();
        })
        .build();
    Auth.Caller caller = auth.authenticate("Bearer pk_live", Set.of("notes:read"));
    assertThat(caller.actor())
        .isEqualTo(new Actor("api_key", "key-1", "org-1", Map.of("workspace", "ws-1")));
    assertThat(caller.principal())
        .isEqualTo(new Principal(
            "org-1",
            Optional.of("ws-1"),
            "key-1",
            Optional.empty(),
            Optional.empty(),
            Optional.of("api_key"),
            Set.of("notes:read"),
            Optional.empty(),
            false));
    assertThat(body(refusal(auth, "Bearer pk_live", "notes:read", "notes:write")))
        .isEqualTo(error(403, "authorization_failed", "missing_required_scopes: notes:write"));
    assertThat(body(refusal(auth, "Bearer pk_dead")))
        .isEqualTo(error(401, "authorization_failed", "invalid_token"));
    assertThat(keys).containsExactly("pk_live", "pk_live", "pk_dead");
  }

  @Test
  void whatIsNotTakenIsInvalid_andSaysNothingOfTheSetUp() {
    Auth tokensOnly = verifying((token, scopes) -> {
      assertThat(token).doesNotStartWith("pk_");
      return Optional.of(ANN);
    });
    assertThat(body(refusal(tokensOnly, "Bearer pk_live")))
        .isEqualTo(error(401, "authorization_failed", "invalid_token"));
    Auth keysOnly = Auth.builder()
        .apiKeys(key -> Optional.of(new ApiKey("key-1", "org-1", Set.of())))
        .build();
    assertThat(body(refusal(keysOnly, "Bearer " + TOKEN)))
        .isEqualTo(error(401, "authorization_failed", "invalid_token"));
  }

  @Test
  void refusesToBeBuilt_withoutTokensAndApiKeys() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Auth.builder().build())
        .withMessage("tokens or apiKeys must be set");
  }

  @Test
  void theTokenStaysOutOfTheFailure_whenTheVerifierPutsItThere() {
    List<TokenVerifier> careless = List.of(
        (token, scopes) -> {
          throw new IOException("cannot verify " + token);
        },
        (token, scopes) -> {
          throw new IllegalStateException("wrapped", new IOException("Bearer " + token));
        },
        (token, scopes) -> {
          IOException failure = new IOException("failed");
          failure.addSuppressed(new IOException(token));
          throw failure;
        },
        (token, scopes) -> {
          throw ServiceException.of(ErrorCode.UNAUTHORIZED, "not known: " + token)
              .op("jwt");
        },
        // The JDK's own: invalid header value: "Bearer ...".
        (token, scopes) -> {
          HttpRequest.newBuilder(URI.create("http://localhost"))
              .header("Authorization", "Bearer " + token + "\n");
          return Optional.empty();
        });
    for (TokenVerifier verifier : careless) {
      ServiceException refusal = refusal(verifying(verifier), "Bearer " + TOKEN);
      StringWriter text = new StringWriter();
      refusal.printStackTrace(new PrintWriter(text));
      assertThat(text.toString())
          .doesNotContain(TOKEN)
          .contains("whose text holds the token and is left out")
          .contains("AuthTest");
      assertThat(ErrorResponse.of(refusal).toJson()).doesNotContain(TOKEN);
    }
  }

  @Test
  void anInterruptedVerifierLeavesTheThreadInterrupted() {
    Auth auth = verifying((token, scopes) -> {
      throw new InterruptedException();
    });
    assertThat(refusal(auth, "Bearer " + TOKEN).code()).isEqualTo(ErrorCode.UNAVAILABLE);
    assertThat(Thread.interrupted()).isTrue();
  }
}
