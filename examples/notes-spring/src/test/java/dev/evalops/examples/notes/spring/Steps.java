package dev.evalops.examples.notes.spring;

import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** What a client of the notes API does, in order, and what it sees, without what is another at each run. */
final class Steps {
  /** One request; {@code {note}} in the path is the path of the note that the first create made. */
  record Step(String what, String method, String path, Map<String, String> headers, String body) {
    Step header(String name, String value) {
      Map<String, String> more = new TreeMap<>(headers);
      more.put(name, value);
      return new Step(what, method, path, more, body);
    }

    Step by(String token) {
      return header("Authorization", "Bearer " + token);
    }

    Step key(String key) {
      return header("Idempotency-Key", key);
    }

    Step body(String json) {
      return new Step(what, method, path, headers, json).header("Content-Type", "application/json");
    }
  }

  /** What the client sees. */
  record Answer(int status, Map<String, List<String>> headers, String body) {}

  private static final String MILK = "{\"title\":\"milk\",\"body\":\"two litres\"}";

  static final List<Step> ALL = List.of(
      step("alive", "GET", "/healthz"),
      step("head", "HEAD", "/healthz"),
      step("no token", "GET", "/v1/notes"),
      step("unknown token", "GET", "/v1/notes").by("unknown"),
      step("nothing yet", "GET", "/v1/notes").by(Service.ANN),
      step("no key", "POST", "/v1/notes").by(Service.ANN).body(MILK),
      step("may not write", "POST", "/v1/notes").by(Service.READER).key("r").body(MILK),
      step("create", "POST", "/v1/notes").by(Service.ANN).key("a").body(MILK),
      step("create again", "POST", "/v1/notes").by(Service.ANN).key("a").body(MILK),
      step("other body", "POST", "/v1/notes").by(Service.ANN).key("a").body("{\"title\":\"tea\"}"),
      step("read", "GET", "{note}").by(Service.ANN),
      step("head of a note", "HEAD", "{note}").by(Service.ANN),
      step("list", "GET", "/v1/notes").by(Service.ANN),
      step("no version", "PUT", "{note}").by(Service.ANN).key("u0").body(MILK),
      step("update", "PUT", "{note}")
          .by(Service.ANN)
          .key("u1")
          .header("If-Match", "\"1\"")
          .body("{\"title\":\"oat milk\"}"),
      step("update again", "PUT", "{note}")
          .by(Service.ANN)
          .key("u1")
          .header("If-Match", "\"1\"")
          .body("{\"title\":\"oat milk\"}"),
      step("stale version", "PUT", "{note}")
          .by(Service.ANN)
          .key("u2")
          .header("If-Match", "\"1\"")
          .body(MILK),
      step("no such note", "GET", "/v1/notes/00000000-0000-4000-8000-000000000000")
          .by(Service.ANN),
      step("update of no note", "PUT", "/v1/notes/00000000-0000-4000-8000-000000000000")
          .by(Service.ANN)
          .key("u3")
          .header("If-Match", "1")
          .body(MILK),
      step("no id", "GET", "/v1/notes/milk").by(Service.ANN),
      step("no title", "POST", "/v1/notes").by(Service.ANN).key("b").body("{\"body\":\"x\"}"),
      step("unknown field", "POST", "/v1/notes").by(Service.ANN).key("c").body("{\"titel\":\"x\"}"),
      step("no JSON", "POST", "/v1/notes").by(Service.ANN).key("d").body("{"),
      step("two values", "POST", "/v1/notes").by(Service.ANN).key("e").body(MILK + MILK),
      step("another type", "POST", "/v1/notes")
          .by(Service.ANN)
          .key("f")
          .body(MILK)
          .header("Content-Type", "text/plain"),
      step("large body", "POST", "/v1/notes")
          .by(Service.ANN)
          .key("g")
          .body("{\"title\":\"" + "x".repeat(300_000) + "\"}"),
      step("limit", "GET", "/v1/notes?limit=1").by(Service.ANN),
      step("wrong limit", "GET", "/v1/notes?limit=0").by(Service.ANN),
      step("no number", "GET", "/v1/notes?limit=many").by(Service.ANN),
      step("no such path", "GET", "/v2/notes").by(Service.ANN),
      step("no such method", "DELETE", "/v1/notes").by(Service.ANN),
      step("other site", "POST", "/v1/notes")
          .by(Service.ANN)
          .key("h")
          .body(MILK)
          .header("Sec-Fetch-Site", "cross-site"),
      step("path parameter", "GET", "/v1/notes;x=1"),
      step("encoded path", "GET", "/v1/%6eotes"));

  private Steps() {}

  private static Step step(String what, String method, String path) {
    return new Step(what, method, path, Map.of(), "");
  }

  /** Does all of it. */
  static Map<String, Answer> run(Service service) throws Exception {
    Map<String, Answer> answers = new LinkedHashMap<>();
    String note = "";
    for (Step step : ALL) {
      HttpRequest.Builder request = service
          .request(step.path().replace("{note}", note))
          .method(
              step.method(),
              step.body().isEmpty()
                  ? BodyPublishers.noBody()
                  : BodyPublishers.ofString(step.body()));
      step.headers().forEach(request::setHeader);
      HttpResponse<String> response = service.send(request.build());
      if (step.what().equals("create")) {
        note = response.headers().firstValue("Location").orElse("");
      }
      answers.put(
          step.what(),
          new Answer(response.statusCode(), headers(response), plain(response.body())));
    }
    return answers;
  }

  private static Map<String, List<String>> headers(HttpResponse<?> response) {
    Map<String, List<String>> headers = new TreeMap<>();
    response.headers().map().forEach((name, values) -> {
      String lower = name.toLowerCase(Locale.ROOT);
      switch (lower) {
        // Of the connection, or another at each run.
        case "date",
            "connection",
            "keep-alive",
            "content-length",
            "transfer-encoding",
            "x-request-id",
            "x-ratelimit-reset",
            "ratelimit",
            "x-ratelimit-remaining" -> {}
        default -> headers.put(lower, values.stream().map(Steps::plain).toList());
      }
    });
    return headers;
  }

  private static String plain(String text) {
    return text.strip()
        .replaceAll("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>")
        .replaceAll("\\d{4}-\\d\\d-\\d\\dT[0-9:.]+Z", "<time>");
  }
}
