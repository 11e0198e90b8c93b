package dev.evalops.runtime.auth;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.RequestContext;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Authenticates requests by the token or API key in {@code Authorization: Bearer}, checks the scopes of the route, and
 * tells the handler who calls.
 *
 * <pre>{@code
 * Auth auth = Auth.builder().tokens(IdentityTokens.of(identity)).apiKeys(keys).build();
 * service.handle("/v1/notes", notes, auth.require("notes:write"));
 *
 * Actor actor = Actor.of(exchange);                   // in the handler
 * Principal.of(exchange).requireHuman();
 * }</pre>
 *
 * <p>A token that begins with {@code pk_} is an API key. Failures are answered with {@code missing_authorization}
 * (401), {@code authorization_failed} (401 or 403) and {@code unavailable} (503), with a {@code WWW-Authenticate}
 * header where RFC 6750 has one. No token is kept, logged or shown, not even if the exception of a verifier holds it.
 *
 * <p>Thread-safe.
 */
public final class Auth {
  /** There is no bearer token: 401. */
  public static final ErrorCode MISSING_AUTHORIZATION = ErrorCode.of(
      "missing_authorization",
      401,
      ConnectCode.UNAUTHENTICATED,
      "Authorization bearer token is required");
  /** The token or API key is not good: 401. */
  public static final ErrorCode INVALID_TOKEN =
      ErrorCode.of("authorization_failed", 401, ConnectCode.UNAUTHENTICATED, "invalid_token");
  /** The token or API key lacks a scope that the route needs: 403. */
  public static final ErrorCode MISSING_SCOPES = ErrorCode.of(
      "authorization_failed", 403, ConnectCode.PERMISSION_DENIED, "missing_required_scopes");
  /** The caller is known and may not do this: 403. */
  public static final ErrorCode FORBIDDEN =
      ErrorCode.of("authorization_failed", 403, ConnectCode.PERMISSION_DENIED, "forbidden");

  private static final String API_KEY = "api_key";
  private static final String API_KEY_PREFIX = "pk_";

  /** RFC 6749; so that a challenge can name the scope. */
  private static final Pattern SCOPE = Pattern.compile("[!#-\\[\\]-~]+");

  private static final RequestContext.Key<Caller> CALLER = RequestContext.Key.of("caller");

  /**
   * Who calls.
   *
   * @param actor for audit rows and ownership
   * @param principal for decisions about access
   */
  public record Caller(Actor actor, Principal principal) {
    /** Checks the values. */
    public Caller {
      Objects.requireNonNull(actor, "actor");
      Objects.requireNonNull(principal, "principal");
    }
  }

  private final TokenVerifier tokens;
  private final ApiKeyValidator apiKeys;
  private final Predicate<? super Throwable> forbidden;

  private Auth(
      TokenVerifier tokens, ApiKeyValidator apiKeys, Predicate<? super Throwable> forbidden) {
    this.tokens = tokens;
    this.apiKeys = apiKeys;
    this.forbidden = forbidden;
  }

  /**
   * Returns an auth that takes tokens, and no API keys.
   *
   * @param verifier tells good tokens from bad ones
   * @return the auth
   */
  public static Auth of(TokenVerifier verifier) {
    return builder().tokens(verifier).build();
  }

  /**
   * Returns a builder.
   *
   * @return a builder that needs a verifier of tokens, a validator of API keys, or both
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Returns a filter that lets callers with all of these scopes pass. The caller is available to the handler by {@link
   * Actor#of} and {@link Principal#of}, and as {@link HttpExchange#getPrincipal()} (name: actor id; realm:
   * organization). If a request passes two such filters, both check it, and the inner one sets the caller.
   *
   * @param scopes the scopes; none for callers of any scope
   * @return a filter for handlers of {@code HttpService} and {@code HttpFilters.chain}
   * @throws IllegalArgumentException if a scope is blank, or has a character that RFC 6749 does not allow in one
   */
  public Filter require(String... scopes) {
    return new AuthFilter(checked(List.of(scopes)));
  }

  /**
   * Decides as the filter does, for use without an {@code HttpExchange}.
   *
   * @param authorizationHeader the value of {@code Authorization}, or null if there is none
   * @param scopes the scopes that the request needs; may be empty
   * @return the caller
   * @throws ServiceException if the request may not pass; see {@link #challenge} for the header of the response
   * @throws IllegalArgumentException if a scope is blank, or has a character that RFC 6749 does not allow in one
   */
  public Caller authenticate(@Nullable String authorizationHeader, Set<String> scopes) {
    return decide(authorizationHeader, checked(scopes));
  }

  /**
   * Returns the {@code WWW-Authenticate} header of the response to a request that may not pass.
   *
   * @param refusal what {@link #authenticate} has thrown
   * @param scopes the scopes that it was given
   * @return the value, or empty if the response has no such header
   * @throws IllegalArgumentException if a scope is blank, or has a character that RFC 6749 does not allow in one
   */
  public static Optional<String> challenge(ServiceException refusal, Set<String> scopes) {
    return Optional.ofNullable(challengeOf(refusal.code(), checked(scopes)));
  }

  private static @Nullable String challengeOf(ErrorCode code, Set<String> required) {
    if (code.equals(MISSING_AUTHORIZATION)) {
      return "Bearer";
    }
    if (code.equals(INVALID_TOKEN)) {
      return "Bearer error=\"invalid_token\"";
    }
    return code.equals(MISSING_SCOPES)
        ? "Bearer error=\"insufficient_scope\", scope=\"" + String.join(" ", required) + "\""
        : null;
  }

  private static Set<String> checked(Collection<String> scopes) {
    for (String scope : scopes) {
      if (!SCOPE.matcher(scope).matches()) {
        throw new IllegalArgumentException(
            "scopes must be one or more printable ASCII characters without space, quote and"
                + " backslash: " + scope);
      }
    }
    return Collections.unmodifiableSet(new TreeSet<>(scopes));
  }

  private Caller decide(@Nullable String header, Set<String> required) {
    String token = token(header);
    if (token == null) {
      throw ServiceException.of(MISSING_AUTHORIZATION).op("auth.bearer");
    }
    VerifiedToken verified = verify(token, required);
    if (!hasAllScopes(verified.scopes(), required)) {
      Set<String> missing = new TreeSet<>(required);
      missing.removeAll(verified.scopes());
      throw ServiceException.of(
              MISSING_SCOPES, MISSING_SCOPES.defaultMessage() + ": " + String.join(" ", missing))
          .op("auth.scopes");
    }
    return new Caller(verified.actor(), Principal.of(verified));
  }

  private VerifiedToken verify(String token, Set<String> required) {
    if (!isPrintable(token)) {
      throw ServiceException.of(INVALID_TOKEN).op("auth.bearer");
    }
    boolean isKey = token.startsWith(API_KEY_PREFIX);
    String op = isKey ? "auth.api_key" : "auth.token";
    Optional<VerifiedToken> verified;
    try {
      verified = isKey
          ? apiKeys.validate(token).map(Auth::verified)
          : Objects.requireNonNull(tokens.verify(token, required), "the verifier returned null");
    } catch (Exception e) {
      if (e instanceof InterruptedException) {
        Thread.currentThread().interrupt();
      }
      throw refusal(op, token, e);
    }
    return verified.orElseThrow(() -> ServiceException.of(INVALID_TOKEN).op(op));
  }

  private static VerifiedToken verified(ApiKey key) {
    Actor actor = new Actor(API_KEY, key.id(), key.organizationId(), key.attributes());
    return VerifiedToken.of(actor, key.scopes());
  }

  private ServiceException refusal(String op, String token, Exception failure) {
    boolean tells = tells(failure, token);
    Throwable cause = tells ? withheld(failure) : failure;
    int status = failure instanceof ServiceException known ? known.code().httpStatus() : 0;
    ErrorCode code = status == 403 || isForbidden(failure)
        ? FORBIDDEN
        : status == 401 ? INVALID_TOKEN : ErrorCode.UNAVAILABLE;
    boolean forClient = !tells && (status == 401 || status == 403);
    String message = forClient ? ErrorResponse.of(failure).message() : code.defaultMessage();
    return ServiceException.of(code, message, cause).op(op);
  }

  private boolean isForbidden(Exception failure) {
    try {
      return forbidden.test(failure);
    } catch (RuntimeException e) {
      if (!e.equals(failure)) {
        failure.addSuppressed(e);
      }
      return false;
    }
  }

  private static boolean tells(Exception failure, String token) {
    StringWriter text = new StringWriter();
    failure.printStackTrace(new PrintWriter(text));
    return text.toString().contains(token);
  }

  private static Exception withheld(Exception failure) {
    Exception withheld = new IllegalStateException(
        failure.getClass().getName() + ", whose text holds the token and is left out");
    withheld.setStackTrace(failure.getStackTrace());
    return withheld;
  }

  /** What is not cannot be a good token, and would fail in the clients of verifiers as if they were broken. */
  private static boolean isPrintable(String token) {
    for (int i = 0; i < token.length(); i++) {
      if (token.charAt(i) < ' ' || token.charAt(i) > '~') {
        return false;
      }
    }
    return true;
  }

  /**
   * Returns the token in an {@code Authorization} header.
   *
   * @param authorizationHeader the value of the header, or null if there is none
   * @return what follows the scheme {@code Bearer}, in any case, and a blank; empty if there is nothing, or another
   *     scheme
   */
  public static Optional<String> bearerToken(@Nullable String authorizationHeader) {
    return Optional.ofNullable(token(authorizationHeader));
  }

  private static @Nullable String token(@Nullable String header) {
    if (header == null || !header.regionMatches(true, 0, "Bearer ", 0, 7)) {
      return null;
    }
    String token = Text.trim(header.substring(7));
    return token.isEmpty() ? null : token;
  }

  /**
   * Whether all scopes that are required are there. A blank one never is.
   *
   * @param available the scopes that somebody has
   * @param required the scopes that are needed; if there are none, the answer is yes
   * @return whether they are all there
   */
  public static boolean hasAllScopes(Collection<String> available, Collection<String> required) {
    for (String scope : required) {
      if (Text.isBlank(scope) || !available.contains(scope)) {
        return false;
      }
    }
    return true;
  }

  static Optional<Caller> caller(HttpExchange exchange) {
    return RequestContext.of(exchange).get(CALLER);
  }

  static IllegalStateException nobody() {
    return new IllegalStateException(
        "nobody is authenticated: put auth.require(...) in front of the handler");
  }

  private final class AuthFilter extends Filter {
    private final Set<String> required;

    AuthFilter(Set<String> required) {
      this.required = required;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      RequestContext context = RequestContext.of(exchange);
      if (context.refusal().isPresent()) {
        chain.doFilter(exchange);
        return;
      }
      Caller caller = authenticate(exchange);
      Actor actor = caller.actor();
      context.put(CALLER, caller);
      context.principal(new HttpPrincipal(actor.id(), actor.organizationId()));
      chain.doFilter(exchange);
    }

    private Caller authenticate(HttpExchange exchange) {
      List<String> headers = exchange.getRequestHeaders().getOrDefault("Authorization", List.of());
      if (headers.size() > 1) {
        throw ServiceException.of(ErrorCode.INVALID_INPUT, "Authorization must be sent once")
            .op("auth.bearer");
      }
      try {
        return decide(headers.isEmpty() ? null : headers.getFirst(), required);
      } catch (ServiceException e) {
        String challenge = challengeOf(e.code(), required);
        if (challenge != null) {
          exchange.getResponseHeaders().set("WWW-Authenticate", challenge);
        }
        throw e;
      }
    }

    @Override
    public String description() {
      return "auth";
    }
  }

  /** Describes an {@link Auth}. Not thread-safe. */
  public static final class Builder {
    private @Nullable TokenVerifier tokens;
    private @Nullable ApiKeyValidator apiKeys;
    private Predicate<? super Throwable> forbidden = failure -> false;

    private Builder() {}

    /**
     * Takes tokens. Without this, whatever does not begin with {@code pk_} is an invalid token.
     *
     * @param verifier tells good tokens from bad ones
     * @return this
     */
    public Builder tokens(TokenVerifier verifier) {
      tokens = Objects.requireNonNull(verifier, "tokens");
      return this;
    }

    /**
     * Takes API keys. Without this, whatever begins with {@code pk_} is an invalid token.
     *
     * @param validator tells good keys from bad ones
     * @return this
     */
    public Builder apiKeys(ApiKeyValidator validator) {
      apiKeys = Objects.requireNonNull(validator, "apiKeys");
      return this;
    }

    /**
     * Adds failures of the verifier or validator that mean that the caller is known and not allowed: 403. Default: only
     * a {@link ServiceException} with status 403.
     *
     * @param rule tests what was thrown; if the rule itself throws, that counts as false
     * @return this
     */
    public Builder forbiddenWhen(Predicate<? super Throwable> rule) {
      forbidden = Objects.requireNonNull(rule, "forbiddenWhen");
      return this;
    }

    /**
     * Checks the description.
     *
     * @return the auth
     * @throws IllegalArgumentException if neither tokens nor API keys are taken
     */
    public Auth build() {
      if (tokens == null && apiKeys == null) {
        throw new IllegalArgumentException("tokens or apiKeys must be set");
      }
      return new Auth(
          tokens == null ? (token, scopes) -> Optional.empty() : tokens,
          apiKeys == null ? key -> Optional.empty() : apiKeys,
          forbidden);
    }
  }
}
