package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class RoutesTest {
  private static final AtomicInteger PAST_THE_FILTER = new AtomicInteger();
  private static HttpService service;

  @BeforeAll
  static void start() {
    Filter deciding = GuardTest.filter((exchange, chain) -> {
      exchange.getResponseHeaders().set("X-Route", RequestContext.of(exchange).route());
      chain.doFilter(exchange);
    });
    Filter refusing = GuardTest.filter((exchange, chain) -> {
      throw ServiceException.of(ErrorCode.UNAUTHORIZED);
    });
    service = routes(HttpService.builder(0))
        .filters(deciding)
        .handle("GET /guarded/{id}", RoutesTest::past, refusing)
        .handle("PUT /guarded/{id}/parts/{part}", RoutesTest::past, refusing)
        .start();
  }

  private static HttpService.Builder routes(HttpService.Builder builder) {
    return builder
        .handle("GET /notes", answer("list"))
        .handle("POST /notes", answer("create"))
        .handle("GET /notes/{id}", answer("read"))
        .handle("PUT /notes/{id}", answer("update"))
        .handle("DELETE /notes/{id}", answer("delete"))
        .handle("POST /notes/search", answer("search"))
        .handle("GET /notes/{note}/parts/{part}", answer("part"))
        .handle("GET /notes/latest/{kind}/x", answer("latest"))
        .handle("/files", answer("files"))
        .handle("GET /files", answer("list of files"))
        .handle("GET /files/{name}", answer("file"))
        .handle("/files/{name}".replace("{name}", "own"), answer("own"))
        .handle("HEAD /head", answer("head alone"))
        .handle("OPTIONS /options", answer("options"))
        .handle("GET /uuid/{id}", uuid())
        .handle("GET /", answer("root"));
  }

  @AfterAll
  static void stop() {
    service.close();
  }

  private static HttpService.Handler answer(String name) {
    return exchange -> HttpResponses.json(exchange, 200, name);
  }

  private static HttpService.Handler uuid() {
    return exchange -> HttpResponses.json(
        exchange,
        200,
        HttpRequests.pathUuid(exchange, "id") + " " + HttpRequests.pathValue(exchange, "id"));
  }

  private static void past(HttpExchange exchange) throws IOException {
    PAST_THE_FILTER.incrementAndGet();
    HttpResponses.noContent(exchange);
  }

  private static RawClient.Response send(String method, String target) throws IOException {
    return send(service, method, target);
  }

  private static RawClient.Response send(HttpService service, String method, String target)
      throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      client.send(method + " " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
      return method.equals("HEAD") ? client.readHead() : client.read();
    }
  }

  @ParameterizedTest
  @CsvSource({
    "GET, /notes, list, /notes",
    "GET, /notes?a=/notes/7, list, /notes",
    "GET, http://x/notes, list, /notes",
    "GET, /n%6ftes, list, /notes",
    "POST, /notes, create, /notes",
    "GET, /notes/7, read, /notes/{id}",
    "PUT, /notes/7, update, /notes/{id}",
    "DELETE, /notes/..., delete, /notes/{id}",
    "GET, /notes/%7Bid%7D, read, /notes/{id}",
    "GET, /notes/search;x, read, /notes/{id}",
    "GET, /notes/searching, read, /notes/{id}",
    "POST, /notes/search, search, /notes/search",
    "POST, /notes/s%65arch, search, /notes/search",
    "GET, /notes/7/parts/8, part, /notes/{note}/parts/{part}",
    "GET, /notes/latest/parts/8, part, /notes/{note}/parts/{part}",
    "GET, /notes/latest/parts/x, latest, /notes/latest/{kind}/x",
    "GET, /notes/latest, read, /notes/{id}",
    "GET, /files, list of files, /files",
    "DELETE, /files, files, /files",
    "GET, /files/, files, /files",
    "GET, /files/a, file, /files/{name}",
    "GET, /files/a/b, files, /files",
    "DELETE, /files/own, own, /files/own",
    "DELETE, /files/own/a, own, /files/own",
    "OPTIONS, /options, options, /options",
    "GET, /, root, /",
  })
  void dispatchesOnMethodAndPath(String method, String target, String expected, String route)
      throws IOException {
    RawClient.Response response = send(method, target);
    assertThat(response.body()).isEqualTo("\"" + expected + "\"\n");
    assertThat(response.header("X-Route")).contains(route);
  }

  @ParameterizedTest
  @CsvSource({
    "DELETE, /notes, 'GET, HEAD, POST', /notes",
    "OPTIONS, /notes, 'GET, HEAD, POST', /notes",
    "get, /notes, 'GET, HEAD, POST', /notes",
    "PURGE, /notes, 'GET, HEAD, POST', /notes",
    "POST, /notes/7, 'DELETE, GET, HEAD, PUT', /notes/{id}",
    "GET, /notes/search, POST, /notes/search",
    "HEAD, /notes/search, POST, /notes/search",
    "GET, /head, HEAD, /head",
    "POST, /guarded/7, 'GET, HEAD', /guarded/{id}",
    "GET, /guarded/7/parts/8, PUT, /guarded/{id}/parts/{part}",
    "POST, /files/a, 'GET, HEAD', /files/{name}",
    "POST, /, 'GET, HEAD', /",
  })
  void saysWhichMethodsThereAre_insideTheFiltersOfTheServiceAlone(
      String method, String target, String allow, String route) throws IOException {
    RawClient.Response response = send(method, target);
    assertThat(response.status()).isEqualTo(405);
    assertThat(response.header("Allow")).contains(allow);
    assertThat(response.header("X-Route")).contains(route);
    if (!method.equals("HEAD")) {
      assertThat(response.body())
          .isEqualTo("{\"error\":{\"code\":\"method_not_allowed\","
              + "\"message\":\"method is not allowed here\"}}\n");
    }
  }

  @Test
  void answersHeadWithWhatGetHas() throws IOException {
    RawClient.Response response = send("HEAD", "/notes/7");
    assertThat(response.status()).isEqualTo(200);
    assertThat(response.header("Content-Length")).contains("7");
    assertThat(send("HEAD", "/head").status()).isEqualTo(200);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "/notes/",
        "/notes/7/",
        "/notes/7/8",
        "/notes;x",
        "/notes/7/parts",
        "/notes/7/parts/",
        "/notes/7/parts/8/",
        "/Notes",
        "/notes%20",
        "/options/a",
        "/x"
      })
  void doesNotFindWhatIsNoRoute(String target) throws IOException {
    RawClient.Response response = send("GET", target);
    assertThat(response.status()).isEqualTo(404);
    assertThat(response.header("X-Route")).contains("unmatched");
  }

  @ParameterizedTest
  @CsvSource({
    "/guarded/7, 401",
    "/guarded/7?x=/notes, 401",
    "/%67uarded/7, 401",
    "/guarded/%37, 401",
    "/guarded/%7Bid%7D, 401",
    "/guarded/7;x=1, 401",
    "/guarded/%3B, 401",
    "/guarded/;, 401",
    "/guarded/..., 401",
    "/guarded/%3f, 401",
    "/guarded/%23, 401",
    "/guarded/a%20b, 401",
    "/guarded/%c3%bc, 401",
    "http://y/guarded/7, 401",
    "/guarded;x/7, 404",
    "/guarded, 404",
    "/guarded/, 404",
    "/guarded/7/, 404",
    "/GUARDED/7, 404",
    "/guarded%20/7, 404",
    "//guarded/7, 400",
    "/guarded//7, 400",
    "/guarded/7//, 400",
    "/guarded%2F7, 400",
    "/guarded%2f7, 400",
    "/guarded/7%2Fparts%2F8, 400",
    "/guarded/%2F, 400",
    "/guarded%5C7, 400",
    "/guarded/., 400",
    "/guarded/.., 400",
    "/guarded/%2e%2e, 400",
    "/guarded/..;x, 400",
    "/notes/../guarded/7, 400",
    "/./guarded/7, 400",
    "/guarded/%252F, 400",
    "/guarded/7#, 400",
    "/guarded/7#/../x, 400",
    "/guarded/7?x#/notes, 400",
    "http://y/guarded/7#x, 400",
    "/guarded/%00, 400",
    "/guarded/%0a, 400",
    "/guarded/%ff, 400",
  })
  void letsNoSpellingPastTheFilterOfATemplate(String target, int status) throws IOException {
    assertThat(send("GET", target).status()).isEqualTo(status);
    assertThat(send("HEAD", target).status()).isEqualTo(status);
    assertThat(PAST_THE_FILTER).hasValue(0);
  }

  @Test
  void decodesValuesOnce() throws IOException {
    List<String> values = new ArrayList<>();
    try (HttpService own = HttpService.builder(0)
        .handle("GET /a/{one}/b/{two}", exchange -> {
          values.add(HttpRequests.pathValue(exchange, "one"));
          values.add(HttpRequests.pathValue(exchange, "two"));
          HttpResponses.noContent(exchange);
        })
        .start()) {
      send(own, "GET", "/a/x%20y;z=1/b/%c3%bc%7B%2B+");
    }
    assertThat(values).containsExactly("x y;z=1", "\u00fc{++");
  }

  @Test
  void readsUuids() throws IOException {
    String id = "0194f3a0-0000-7000-8000-00000000000a";
    assertThat(send("GET", "/uuid/" + id).body()).isEqualTo("\"" + id + " " + id + "\"\n");
    RawClient.Response refused = send("GET", "/uuid/7");
    assertThat(refused.status()).isEqualTo(400);
    assertThat(refused.body())
        .isEqualTo(
            "{\"error\":{\"code\":\"invalid_id\",\"message\":\"id must be a valid UUID\"}}\n");
  }

  @Test
  void hasNoValueOfATemplateThatTheRouteDoesNotHave() throws IOException {
    List<String> failures = new ArrayList<>();
    HttpService.Handler asking = exchange -> {
      for (String name : List.of("other", "", "id}")) {
        try {
          HttpRequests.pathValue(exchange, name);
        } catch (IllegalArgumentException e) {
          failures.add(e.getMessage());
        }
      }
      HttpResponses.noContent(exchange);
    };
    try (HttpService own = HttpService.builder(0)
        .handle("GET /a/{id}", asking)
        .handle("/b", asking)
        .start()) {
      assertThat(send(own, "GET", "/a/7").status()).isEqualTo(204);
      assertThat(send(own, "GET", "/b").status()).isEqualTo(204);
    }
    assertThat(failures)
        .hasSize(6)
        .contains("route /a/{id} has no {other}", "route /b has no {other}");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "a | path must start with a slash and not end with one",
        "'' | path must start with a slash and not end with one",
        "/b/ | path must start with a slash and not end with one",
        "GET /b/ | path must start with a slash and not end with one",
        "GET | path must start with a slash and not end with one",
        "'GET ' | path must start with a slash and not end with one",
        "GET  /b | path must start with a slash and not end with one",
        "/c/../d | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "GET /c//d | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "GET /c%20d | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "/c/* | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "GET /c?d | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "GET /c d | path must be plain, without escapes, empty segments, dot segments, ? and *",
        "get /e | method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "FETCH /e | method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "GET,POST /e | method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "' /e' | method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "/f/{id} | path must have a method before it, as in GET /notes/{id}, to have templates",
        "GET /f/{id | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/id} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{{id}} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/a{id} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{id}.txt | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{a}{b} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{id...} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{a/b} | path must have braces only around the name of a whole segment, as in /notes/{id}",
        "GET /f/{a}/{b}/{a} | path must not have two templates of one name",
        "/taken | path must be registered once",
        "GET /taken/{id} | method and path must be registered once",
        "PUT /taken/{other} | path must name its templates as /taken/{id} does",
      })
  void refusesWrongPatterns(String pattern, String problem) {
    assertThatThrownBy(() -> HttpService.builder()
            .handle("/taken", answer(""))
            .handle("GET /taken/{id}", answer(""))
            .handle(pattern, answer(""))
            .handle("/again/", answer(""))
            .handler())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(problem + ": " + pattern
            + "; path must start with a slash and not end with one: /again/");
  }

  private static class Named extends Filter {
    private final String name;

    Named(String name) {
      this.name = name;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      chain.doFilter(exchange);
    }

    @Override
    public String description() {
      return name;
    }
  }

  private static final class AfterOuter extends Named implements HttpFilters.After {
    AfterOuter() {
      super("inner");
    }

    @Override
    public String after() {
      return "outer";
    }
  }

  @Test
  void refusesFiltersInTheWrongOrder() {
    Filter inner = new AfterOuter();
    Filter outer = new Named("outer");
    assertThatThrownBy(() -> HttpService.builder()
            .handle("GET /route", answer(""), inner, outer)
            .handle("/right", answer(""), outer, inner)
            .handle("/twice", answer(""), outer, inner, outer)
            .handle("/other", answer(""), new Named("outer of another name"), inner)
            .handle("/again/", answer(""))
            .handler())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("filters must have outer before inner: GET /route;"
            + " path must start with a slash and not end with one: /again/");
    assertThatThrownBy(() -> HttpService.builder()
            .filters(inner)
            .handle("/without", answer(""))
            .handle("/service", answer(""), outer)
            .handler())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("filters must have outer before inner: /service");
    assertThatThrownBy(() -> HttpFilters.chain(answer(""), inner, outer))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("filters must have outer before inner");
  }

  @Provide
  Arbitrary<List<String>> paths() {
    return Arbitraries.of("a", "b", "{x}")
        .list()
        .ofMaxSize(3)
        .map(s -> "/" + String.join("/", s))
        .flatMap(path -> Arbitraries.of("GET " + path, path))
        .filter(pattern -> pattern.startsWith("GET") || pattern.indexOf('{') < 0)
        .filter(pattern -> pattern.indexOf('{') == pattern.lastIndexOf('{'))
        .list()
        .uniqueElements()
        .ofMinSize(1)
        .ofMaxSize(8);
  }

  /** Against a list of what is more specific, written out. */
  @Property(tries = 300)
  void findsTheMostSpecific(
      @ForAll("paths") List<String> patterns, @ForAll("requests") String path) {
    String best = null;
    for (String pattern : patterns) {
      String key = key(pattern, path);
      if (key != null && (best == null || key.compareTo(key(best, path)) < 0)) {
        best = pattern;
      }
    }
    assertThat(found(patterns, path))
        .isEqualTo(best == null ? "unmatched" : best.substring(best.indexOf('/')));
  }

  @Provide
  Arbitrary<String> requests() {
    return Arbitraries.of("a", "b", "c").list().ofMaxSize(4).map(s -> "/" + String.join("/", s));
  }

  private static String key(String pattern, String path) {
    boolean below = pattern.startsWith("/");
    List<String> wanted = segments(pattern.substring(pattern.indexOf('/')));
    List<String> given = segments(path);
    if (given.size() < wanted.size() || (!below && given.size() > wanted.size())) {
      return null;
    }
    StringBuilder key = new StringBuilder();
    for (int i = 0; i < wanted.size(); i++) {
      boolean template = wanted.get(i).equals("{x}");
      if (!template && !wanted.get(i).equals(given.get(i))) {
        return null;
      }
      key.append(template ? '1' : '0');
    }
    return key.append(below ? '3' : '2').toString();
  }

  private static List<String> segments(String path) {
    return path.equals("/") ? List.of() : List.of(path.substring(1).split("/"));
  }

  private static String found(List<String> patterns, String path) {
    List<String> problems = new ArrayList<>();
    Routes routes = new Routes(
        patterns.stream()
            .map(p -> new Routes.Registration(p, exchange -> {}, List.of()))
            .toList(),
        List.of(),
        problems);
    assertThat(problems).isEmpty();
    Routes.Path found = routes.find(path);
    return found == null ? "unmatched" : found.label();
  }

  @Test
  void runsOnAServerOfOnesOwn_withItsLimits() throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress("localhost", 0), 0);
    server.createContext(
        "/",
        routes(HttpService.builder())
            .maxBody(3)
            .filters(HttpFilters.requestId())
            .handle(
                "POST /echo",
                exchange -> HttpResponses.bytes(
                    exchange, 200, "text/plain", exchange.getRequestBody().readAllBytes()))
            .handler());
    server.start();
    try (RawClient client =
        new RawClient(new java.net.Socket("localhost", server.getAddress().getPort()))) {
      assertThat(client.get("/notes/7").body()).isEqualTo("\"read\"\n");
      assertThat(client.get("/notes/search").status()).isEqualTo(405);
      assertThat(client.get("/none").header("X-Request-Id")).isPresent();
      assertThat(client.get("/notes//7").status()).isEqualTo(400);
      assertThat(client.post("/echo", "abc").body()).isEqualTo("abc");
      assertThat(client.post("/echo", "abcd").status()).isEqualTo(413);
    } finally {
      server.stop(0);
    }
  }

  @Test
  void limitsRequestsInFlight_onAServerOfOnesOwnToo() throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress("localhost", 0), 0);
    Set<Integer> statuses = java.util.concurrent.ConcurrentHashMap.newKeySet();
    server.createContext(
        "/",
        HttpService.builder()
            .maxInFlight(1)
            .handle("GET /outer", exchange -> {
              try (RawClient inner = new RawClient(
                  new java.net.Socket("localhost", server.getAddress().getPort()))) {
                statuses.add(inner.get("/outer").status());
                statuses.add(inner.get("/healthz").status());
              }
              HttpResponses.noContent(exchange);
            })
            .handle("GET /healthz", HttpEndpoints.health("own"))
            .handler());
    try (var executor = java.util.concurrent.Executors.newVirtualThreadPerTaskExecutor()) {
      server.setExecutor(executor);
      server.start();
      try (RawClient client =
          new RawClient(new java.net.Socket("localhost", server.getAddress().getPort()))) {
        assertThat(client.get("/outer").status()).isEqualTo(204);
      } finally {
        server.stop(0);
      }
    }
    assertThat(statuses).containsExactlyInAnyOrder(503, 200);
  }
}
