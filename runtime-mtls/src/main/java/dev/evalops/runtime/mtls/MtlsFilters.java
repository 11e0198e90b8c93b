package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.mtls.CertificateRule.Decision;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Collection;
import java.util.List;

/**
 * Filters that require a client certificate. Other clients get 401, {@code
 * {"error":{"code":"client_certificate_required","message":"…"}}} or the code {@code
 * client_certificate_identity_not_allowed}, and the connection is closed, as its certificate cannot change. The filters
 * are thread-safe.
 */
public final class MtlsFilters {
  private MtlsFilters() {}

  /**
   * Returns a filter that requires any client certificate that the TLS handshake has verified.
   *
   * @return the filter
   */
  public static Filter requireVerified() {
    return new CertificateFilter(CertificateRule.anyVerified());
  }

  /**
   * Returns a filter that requires a client certificate with at least one of the names.
   *
   * @param allowed not empty
   * @return the filter
   * @throws IllegalArgumentException if the list is empty
   */
  public static Filter requireIdentity(CertificateIdentity... allowed) {
    return requireIdentity(List.of(allowed));
  }

  /**
   * Returns a filter that requires a client certificate with at least one of the names.
   *
   * @param allowed not empty
   * @return the filter
   * @throws IllegalArgumentException if the list is empty
   */
  public static Filter requireIdentity(Collection<CertificateIdentity> allowed) {
    return new CertificateFilter(CertificateRule.anyOf(allowed));
  }

  /**
   * Returns the names in the client's certificate, for a handler behind a filter.
   *
   * @param exchange of the request
   * @return common name, DNS names, URIs, e-mail addresses; empty without a verified certificate
   */
  public static List<CertificateIdentity> identities(HttpExchange exchange) {
    return decide(CertificateRule.anyVerified(), exchange).identities();
  }

  private static Decision decide(CertificateRule rule, HttpExchange exchange) {
    return rule.decide(exchange instanceof HttpsExchange secure ? secure.getSSLSession() : null);
  }

  private static final class CertificateFilter extends Filter {
    private final CertificateRule rule;

    CertificateFilter(CertificateRule rule) {
      this.rule = rule;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      Decision decision = decide(rule, exchange);
      if (decision.allowed()) {
        chain.doFilter(exchange);
        return;
      }
      byte[] body = ("{\"error\":{\"code\":\"" + decision.outcome().code() + "\",\"message\":\""
              + decision.outcome().message() + "\"}}\n")
          .getBytes(UTF_8);
      exchange.getResponseHeaders().set("Content-Type", "application/json");
      exchange.getResponseHeaders().set("Connection", "close");
      boolean head = exchange.getRequestMethod().equals("HEAD");
      exchange.sendResponseHeaders(401, head ? -1 : body.length);
      if (!head) {
        try (OutputStream out = exchange.getResponseBody()) {
          out.write(body);
        }
      }
    }

    @Override
    public String description() {
      return "requires a client certificate";
    }
  }
}
