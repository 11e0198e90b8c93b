package dev.evalops.benchmarks.peers;

import io.helidon.common.configurable.Resource;
import io.helidon.common.pki.Keys;
import io.helidon.common.tls.Tls;
import io.helidon.http.ForbiddenException;
import io.helidon.http.HeaderName;
import io.helidon.http.HeaderNames;
import io.helidon.http.HttpException;
import io.helidon.http.NotFoundException;
import io.helidon.http.Status;
import io.helidon.http.UnauthorizedException;
import io.helidon.webserver.WebServer;
import io.helidon.webserver.WebServerConfig;
import io.helidon.webserver.http.ServerRequest;
import io.helidon.webserver.http.ServerResponse;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.Map;
import java.util.UUID;

/** Helidon SE as it comes. {@code <port>} */
public final class OnHelidon {
  private static final HeaderName REQUEST_ID = HeaderNames.create("X-Request-Id");

  private OnHelidon() {}

  public static void main(String[] args) {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    HandMade hand = new HandMade(registry);
    WebServerConfig.Builder builder = WebServer.builder()
        .port(Integer.parseInt(args[0]))
        .routing(routing -> routing
            .addFilter((chain, request, response) -> {
              long start = System.nanoTime();
              String id = HandMade.requestId(request.headers().first(REQUEST_ID).orElse(null));
              response.header(REQUEST_ID, id);
              try {
                InetSocketAddress peer = (InetSocketAddress) request.remotePeer().address();
                if (!hand.allows(peer.getAddress().getHostAddress())) {
                  throw new HttpException("rate_limited", Status.TOO_MANY_REQUESTS_429);
                }
                chain.proceed();
              } finally {
                hand.complete(
                    id,
                    request.prologue().method().text(),
                    request.path().path(),
                    request.matchingPattern().orElse("unmatched"),
                    response.status().code(),
                    start);
              }
            })
            .get("/v1/notes/{id}", OnHelidon::authorize, OnHelidon::read)
            .get("/healthz", (request, response) -> response.send(Map.of("status", "ok")))
            .get("/metrics", (request, response) -> response.send(registry.scrape())));
    KeyFiles.find().ifPresent(keys -> builder.tls(tls(keys)));
    builder.build().start();
  }

  private static Tls tls(KeyFiles files) {
    Keys keys = Keys.builder()
        .keystore(store -> store
            .keystore(Resource.create(Path.of(files.store())))
            .passphrase(KeyFiles.PASSWORD)
            .keyAlias(KeyFiles.ALIAS))
        .build();
    return Tls.builder()
        .privateKey(keys)
        .privateKeyCertChain(keys)
        .addEnabledProtocol(KeyFiles.PROTOCOL)
        .build();
  }

  private static void authorize(ServerRequest request, ServerResponse response) {
    String header = request.headers().first(HeaderNames.AUTHORIZATION).orElse(null);
    Notes.Caller caller = Notes.caller(String.valueOf(HandMade.token(header)))
        .orElseThrow(() -> new UnauthorizedException("invalid_token"));
    if (!caller.scopes().contains(Notes.SCOPE)) {
      throw new ForbiddenException("missing_scopes");
    }
    request.context().register(caller);
    response.next();
  }

  private static void read(ServerRequest request, ServerResponse response) {
    UUID id = UUID.fromString(request.path().pathParameters().get("id"));
    response.send(Notes.find(id).orElseThrow(() -> new NotFoundException("no such note")));
  }
}
