package dev.evalops.benchmarks.peers;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.servlet.Servlets;
import io.micrometer.core.instrument.MeterRegistry;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import org.slf4j.LoggerFactory;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Profile;
import org.springframework.core.env.Environment;
import org.springframework.http.HttpStatus;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.config.http.SessionCreationPolicy;
import org.springframework.security.core.authority.AuthorityUtils;
import org.springframework.security.oauth2.core.OAuth2AuthenticatedPrincipal;
import org.springframework.security.oauth2.core.DefaultOAuth2AuthenticatedPrincipal;
import org.springframework.security.oauth2.server.resource.introspection.BadOpaqueTokenException;
import org.springframework.security.oauth2.server.resource.introspection.OpaqueTokenIntrospector;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.filter.OncePerRequestFilter;
import org.springframework.web.server.ResponseStatusException;
import org.springframework.web.servlet.HandlerMapping;

/**
 * Spring Boot. {@code <port> idiomatic | tuned | bare | runtime}: with Spring Security, Actuator's metrics and a
 * filter of one's own; with one filter of one's own instead of all these; with none; with this library in
 * front of the controllers.
 */
@SpringBootApplication
public class OnSpring {
  public static void main(String[] args) {
    SpringApplication application = new SpringApplication(OnSpring.class);
    boolean idiomatic = args[1].equals("idiomatic");
    application.setAdditionalProfiles(args[1]);
    Map<String, Object> properties = new HashMap<>(Map.of(
        "server.port", args[0],
        "spring.main.banner-mode", "off",
        "management.observations.enable.http", Boolean.toString(idiomatic),
        "management.observations.enable.spring.security", "false",
        "spring.autoconfigure.exclude", idiomatic ? "" : String.join(",", SECURITY)));
    KeyFiles.find().ifPresent(keys -> properties.putAll(Map.of(
        "server.ssl.certificate", keys.certificate(),
        "server.ssl.certificate-private-key", keys.key(),
        "server.ssl.enabled-protocols", KeyFiles.PROTOCOL)));
    application.setDefaultProperties(properties);
    application.run();
  }

  private static final String[] SECURITY = {
    "org.springframework.boot.security.autoconfigure.SecurityAutoConfiguration",
    "org.springframework.boot.security.autoconfigure.UserDetailsServiceAutoConfiguration",
    "org.springframework.boot.security.autoconfigure.web.servlet.SecurityFilterAutoConfiguration",
    "org.springframework.boot.security.autoconfigure.web.servlet.ServletWebSecurityAutoConfiguration",
    "org.springframework.boot.security.autoconfigure.actuate.web.servlet.ManagementWebSecurityAutoConfiguration",
    "org.springframework.boot.security.oauth2.server.resource.autoconfigure.servlet"
        + ".OAuth2ResourceServerAutoConfiguration",
    "org.springframework.boot.webmvc.autoconfigure.actuate.web.WebMvcObservationAutoConfiguration"
  };

  @RestController
  static class Controller {
    @GetMapping("/v1/notes/{id}")
    Notes.Note read(@PathVariable UUID id) {
      return Notes.find(id).orElseThrow(() -> new ResponseStatusException(HttpStatus.NOT_FOUND));
    }

    @GetMapping("/healthz")
    Map<String, String> health() {
      return Map.of("status", "ok");
    }
  }

  @Bean
  @Profile("idiomatic")
  SecurityFilterChain security(HttpSecurity http) {
    return http.authorizeHttpRequests(requests -> requests
            .requestMatchers("/v1/notes/*")
            .hasAuthority("SCOPE_" + Notes.SCOPE)
            .anyRequest()
            .permitAll())
        .oauth2ResourceServer(server -> server.opaqueToken(Customizer.withDefaults()))
        .sessionManagement(session -> session.sessionCreationPolicy(SessionCreationPolicy.STATELESS))
        .csrf(csrf -> csrf.disable())
        .build();
  }

  @Bean
  @Profile("idiomatic")
  OpaqueTokenIntrospector introspector() {
    return token -> {
      Notes.Caller caller = Notes.caller(token).orElseThrow(() -> new BadOpaqueTokenException("unknown"));
      return principal(caller);
    };
  }

  private static OAuth2AuthenticatedPrincipal principal(Notes.Caller caller) {
    return new DefaultOAuth2AuthenticatedPrincipal(
        caller.subject(),
        Map.of("org", caller.organization()),
        AuthorityUtils.createAuthorityList(
            caller.scopes().stream().map(scope -> "SCOPE_" + scope).toList()));
  }

  @Bean
  @Profile({"idiomatic", "tuned"})
  FilterRegistrationBean<OncePerRequestFilter> requests(
      MeterRegistry registry, Environment environment) {
    HandMade hand = new HandMade(registry);
    boolean tuned = environment.matchesProfiles("tuned");
    FilterRegistrationBean<OncePerRequestFilter> bean = new FilterRegistrationBean<>(new OncePerRequestFilter() {
      @Override
      protected void doFilterInternal(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
          throws ServletException, IOException {
        long start = System.nanoTime();
        String id = HandMade.requestId(request.getHeader("X-Request-Id"));
        response.setHeader("X-Request-Id", id);
        try {
          if (!hand.allows(request.getRemoteAddr())) {
            response.sendError(429);
          } else if (!tuned || authorized(request, response)) {
            chain.doFilter(request, response);
          }
        } finally {
          Object pattern = request.getAttribute(HandlerMapping.BEST_MATCHING_PATTERN_ATTRIBUTE);
          String route = pattern == null ? "unmatched" : pattern.toString();
          if (tuned) {
            hand.complete(id, request.getMethod(), request.getRequestURI(), route, response.getStatus(), start);
          } else {
            HandMade.line(
                id,
                request.getMethod(),
                request.getRequestURI(),
                route,
                response.getStatus(),
                System.nanoTime() - start);
          }
        }
      }
    });
    bean.setOrder(Integer.MIN_VALUE);
    return bean;
  }

  private static boolean authorized(HttpServletRequest request, HttpServletResponse response) throws IOException {
    if (!request.getRequestURI().startsWith("/v1/")) {
      return true;
    }
    Notes.Caller caller = Notes.caller(String.valueOf(HandMade.token(request.getHeader("Authorization")))).orElse(null);
    if (caller == null) {
      response.sendError(401);
      return false;
    }
    if (!caller.scopes().contains(Notes.SCOPE)) {
      response.sendError(403);
      return false;
    }
    request.setAttribute("caller", caller);
    return true;
  }

  @Bean
  @Profile("runtime")
  ServletContextInitializer runtime(MeterRegistry registry) {
    ServiceMetrics metrics = ServiceMetrics.of("notes", registry);
    RateLimiter limiter = RateLimiter.builder().perSecond(1e6).burst(1_000_000).metrics("notes", registry).open();
    Auth auth = Auth.of((token, scopes) -> Notes.caller(token)
        .map(c -> VerifiedToken.of(new Actor("user", c.subject(), c.organization()), c.scopes())));
    HttpHandler handler = HttpService.builder()
        .filters(HttpFilters.requestId(), metrics.requests(LoggerFactory.getLogger("http")), limiter.filter())
        .handle("GET /v1/notes/{id}", Servlets.next(), auth.require(Notes.SCOPE))
        .handle("/", Servlets.next())
        .handler();
    return context -> Servlets.addTo(context, handler);
  }
}
