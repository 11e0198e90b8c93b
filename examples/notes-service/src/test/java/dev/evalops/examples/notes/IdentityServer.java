package dev.evalops.examples.notes;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.HttpService.ClientCertificates;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.net.URI;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/** A small identity service: knows some tokens, and tells who they belong to. It can go away and come back. */
final class IdentityServer implements AutoCloseable {
  private static final String PATH = "/v1/introspect";

  private final Map<String, Map<String, Object>> tokens = new ConcurrentHashMap<>();
  private final Optional<ServerTls> tls;
  private HttpService http;

  private IdentityServer(Optional<ServerTls> tls) {
    this.tls = tls;
    this.http = serve(0);
  }

  /** Over plain HTTP. */
  static IdentityServer start() {
    return new IdentityServer(Optional.empty());
  }

  /** Over TLS, for clients with a certificate. */
  static IdentityServer start(Certificates certificates) {
    return new IdentityServer(Optional.of(ServerTls.builder()
        .certificate(certificates.certificateFile(), certificates.keyFile())
        .requireClients(certificates.caFile())
        .onReload(reload -> {})
        .open()));
  }

  private HttpService serve(int port) {
    HttpService.Builder builder =
        HttpService.builder(port).host("127.0.0.1").handle(PATH, this::introspect);
    tls.ifPresent(mtls -> builder.tls(mtls.sslContext(), ClientCertificates.REQUIRED));
    return builder.start();
  }

  URI url() {
    return URI.create((tls.isPresent() ? "https" : "http") + "://localhost:" + http.port() + PATH);
  }

  /** Knows a person's token from now on. */
  IdentityServer person(String token, String subject, String organization, String... scopes) {
    tokens.put(
        token,
        Map.of(
            "active",
            true,
            "token_type",
            "user",
            "subject",
            subject,
            "organization_id",
            organization,
            "scopes",
            List.of(scopes)));
    return this;
  }

  private void introspect(HttpExchange exchange) throws IOException {
    HttpRequests.requireMethod(exchange, "POST");
    HttpRequests.json(exchange, Map.class);
    String authorization = Optional.ofNullable(
            exchange.getRequestHeaders().getFirst("Authorization"))
        .orElse("");
    Map<String, Object> known = tokens.get(authorization.replaceFirst("^Bearer ", ""));
    if (known == null) {
      throw ServiceException.of(ErrorCode.UNAUTHORIZED).op("identity.introspect");
    }
    HttpResponses.json(exchange, 200, known);
  }

  /** Goes away; nobody listens on its port. */
  void stop() {
    http.close();
  }

  /** Comes back on the same port. */
  void restart() {
    http = serve(http.port());
  }

  @Override
  public void close() {
    stop();
    tls.ifPresent(ServerTls::close);
  }
}
