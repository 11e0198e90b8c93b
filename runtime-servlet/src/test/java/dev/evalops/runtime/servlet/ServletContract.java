package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.RawClient;
import java.io.EOFException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What only servlets do, in each container. */
abstract class ServletContract extends Contract {
  private static final String FORM = "Content-Type: application/x-www-form-urlencoded";

  String servletVersion() {
    return System.getProperty("servlet.api", "6.1");
  }

  private String answers(String path, int status, String body, String... headers) throws Exception {
    String request = request("GET", "/servlet" + path, "");
    RawClient.Response response = send(request);
    assertThat(response.body()).isEqualTo(body);
    assertThat(response.status()).isEqualTo(status);
    for (String header : headers) {
      int colon = header.indexOf(':');
      if (colon < 0) {
        assertThat(response.header(header.substring(1))).isEmpty();
      } else {
        assertThat(response.header(header.substring(0, colon)).orElse("missing"))
            .startsWith(header.substring(colon + 2));
      }
    }
    return request;
  }

  @Test
  void runsOnTheVersionThatItIsMeantFor() throws Exception {
    answers("/version", 200, servletVersion());
  }

  @Test
  void readsForms_withinTheLimit() throws Exception {
    assertThat(send(request("POST", "/servlet/form?a=1&b=%C3%BC", "a=2&c=x+y%21&d", FORM))
            .body())
        .isEqualTo("a=1,2 b=\u00fc c=x y! d=");
    assertThat(send(request("POST", "/servlet/small-form", "a=123456789", FORM)).status())
        .isEqualTo(413);
    assertThat(send(request(
                "POST",
                "/servlet/small-form",
                chunked("a=1234", "56789"),
                FORM,
                "Transfer-Encoding: chunked"))
            .status())
        .isEqualTo(413);
    assertThat(send(request("POST", "/servlet/form", "a=%zz", FORM)).status()).isEqualTo(400);
  }

  @Test
  void refusesParametersThatAreNotInTheirCharset() throws Exception {
    assertThat(send(request("POST", "/servlet/form", "a=%EF%bf%BD", FORM)).body())
        .isEqualTo("a=\ufffd");
    for (String malformed : List.of("a=%FC", "%ED%A0%80=1", "a=x\u00fc")) {
      RawClient.Response refused = send(request("POST", "/servlet/form", malformed, FORM));
      assertThat(refused.status()).isEqualTo(400);
      assertThat(refused.body()).contains("\"invalid_input\"");
    }
    assertThat(get("/servlet/form?a=%FC").status()).isEqualTo(400);
  }

  @Test
  void answersWithoutABody_whenNobodyMindsThatABodyCouldNotBeRead() throws Exception {
    String chunked = "Transfer-Encoding: chunked";
    assertThat(
            send(request("POST", "/direct/malformed", "g\r\n", TEXT, chunked)).status())
        .isEqualTo(204);
  }

  @Test
  void readsFormsThatAreNotEncoded() throws Exception {
    String raw = "\u00c3\u00bc"; // \u00fc in UTF-8
    String form = "a=" + raw + "&" + raw + "=%C3%BC" + raw;
    assertThat(send(request("POST", "/servlet/form", form, FORM)).body())
        .isEqualTo("a=\u00fc \u00fc=\u00fc\u00fc");
  }

  @Test
  void blamesTheClient_whenItsCharsetIsUnknown() throws Exception {
    // Spring Boot reads it as UTF-8 all the same.
    assertThat(send(request("POST", "/servlet/form", "a=1", FORM + ";charset=nope"))
            .status())
        .isIn(200, 400);
    assertThat(send(request("POST", "/servlet/reader", "\u00c3\u00bc", FORM + ";charset=utf-8"))
            .body())
        .isEqualTo("application/x-www-form-urlencoded;charset=utf-8 \u00fc");
    assertThat(send(request("POST", "/servlet/reader", "a", FORM + ";charset=nope"))
            .status())
        .isIn(200, 400);
  }

  @Test
  void readsAThousandParameters_andRefusesMore() throws Exception {
    RawClient.Response many = send(request("POST", "/servlet/form?a=1", "a=2&".repeat(999), FORM));
    assertThat(many.status()).isEqualTo(200);
    assertThat(many.body()).isEqualTo("a=1" + ",2".repeat(999));
    for (String names : List.of("a&".repeat(1000), "a&".repeat(500_000))) {
      RawClient.Response refused = send(request("POST", "/servlet/form?a=1", names, FORM));
      assertThat(refused.status()).isEqualTo(400);
      assertThat(refused.body()).contains("\"invalid_input\"", "more than 1000 parameters");
    }
  }

  @Test
  void commitsWithTheLength_whenAWriterIsUsed() throws Exception {
    answers(
        "/writer",
        200,
        "gr\u00fc\u00dfe",
        "Content-Length: 7",
        "Content-Type: text/plain;charset=");
    answers("/writer?flush", 200, "gr\u00fc\u00dfe", "Transfer-Encoding: chunked");
  }

  @Test
  void resetsWhatIsNotCommitted() throws Exception {
    answers("/reset", 200, "reset", "!X-Gone", "X-Frame-Options: DENY");
    answers("/reset-twice", 200, "Origin, Accept");
    answers("/reset-buffer", 200, "kept", "X-Kept: 1");
  }

  @Test
  void sendsWhatWasAnnounced_orRefuses() throws Exception {
    answers("/exact", 200, "exact", "Content-Length: 5");
    assertThat(get("/servlet/too-short").status()).isEqualTo(500);
    assertThat(get("/servlet/too-long").status()).isEqualTo(500);
    assertThat(get("/servlet/both").status()).isEqualTo(500);
    answers("/nothing", 200, "");
  }

  @Test
  void sendsHeaders() throws Exception {
    answers("/late-header", 200, "x", "!X-Late");
    answers("/null-header", 200, "null", "Vary: Accept", "!X-Gone");
    answers("/dates", 200, "dates", "Last-Modified: Fri, 01 Jan 1971 00:00:00 GMT", "X-Int: 7");
    RawClient.Response response = get("/servlet/cookie");
    assertThat(response.headers().toString()).contains("taste=sweet", "more=1", "JSESSIONID=");
  }

  @Test
  void includesAndForwards() throws Exception {
    answers("/include", 200, "before included after");
    answers("/forward", 200, "forwarded 1", "X-Forwarded-Here: 1", "X-Frame-Options: DENY");
    answers("/context-forward", 200, "forwarded 1", "X-Forwarded-Here: 1");
  }

  @Test
  void addsTheParametersOfADispatch_whileItLasts() throws Exception {
    String asked = " a=1,2 b=7";
    assertThat(send(request("POST", "/servlet/dispatched-form?a=1", "a=2&b=7", FORM))
            .body())
        .isEqualTo("asked" + asked + "included a=3,1,2 x=4 b=7 again" + asked);
    assertThat(send(request("POST", "/servlet/dispatched-form?a=1&forward", "a=2&b=7", FORM))
            .body()
            .split(" "))
        .containsExactlyInAnyOrder("a=5,1,2", "y=6", "forward=", "b=7");
  }

  @ParameterizedTest
  @CsvSource({"/servlet/long, ", "/direct/stream, ", "/direct/big, 20000", "/redirect, 0", "/none, "
  })
  void announcesNoWrongLength_toHead(String path, String length) throws Exception {
    try (RawClient client = client()) {
      client.send(request("HEAD", path, ""));
      RawClient.Response head = client.readHead();
      assertThat(head.header("Content-Length").orElse("none"))
          .isEqualTo(length == null ? "none" : length);
      client.send(request("GET", "/hello", ""));
      assertThat(client.read().body()).isEqualTo("hello");
    }
  }

  @Test
  void saysWhetherARequestMayBeAsynchronous() throws Exception {
    answers("/supported", 200, "asynchronous true");
    answers("/wrapped/supported", 200, "asynchronous false");
  }

  @ParameterizedTest
  @ValueSource(strings = {"/interrupted", "/async/interrupted"})
  void answers_thoughTheThreadIsLeftInterrupted(String path) throws Exception {
    completesOnce(answers(path, 200, "interrupted"), " 200");
    assertThat(guardLog.messages()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "400, invalid_input",
    "401, unauthorized",
    "403, forbidden",
    "404, not_found",
    "406, invalid_input",
    "405, method_not_allowed",
    "409, conflict",
    "415, unsupported_content_type",
    "418, invalid_input",
    "500, internal_error",
    "502, internal_error",
    "503, unavailable"
  })
  void answersSendErrorInTheOneShape(int status, String code) throws Exception {
    RawClient.Response response = get("/servlet/error?" + status);
    assertThat(response.status()).isEqualTo(status);
    assertThat(response.body())
        .startsWith("{\"error\":{\"code\":\"" + code + "\"")
        .doesNotContain("secret");
    assertThat(response.header("WWW-Authenticate")).contains("Basic");
    assertThat(response.header("X-Request-Id")).isPresent();
  }

  @Test
  void showsAttributesAndAddresses() throws Exception {
    assertThat(get("/servlet/attributes").body()).startsWith("value ");
  }

  @ParameterizedTest
  @CsvSource({
    "/late, 200, late",
    "/at-once, 201, at once",
    "/dispatch, 200, result true",
    "/dispatch-path, 200, result true",
    "/again, 200, again",
    "/timeout-answered, 200, timed out",
    "/twice, 200, once",
  })
  void answersAsynchronousServlets(String path, int status, String body) throws Exception {
    String request = answers("/async" + path, status, body, "X-Frame-Options: DENY");
    completesOnce(request, " " + status);
    assertThat(guardLog.messages()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "/async/throws, 409, conflict",
    "/async/throws-at-once, 409, conflict",
    "/async/timeout, 503, unavailable",
    "/async/non-blocking, 500, internal_error",
    "/wrapped, 500, internal_error",
  })
  void answersFailuresOfAsynchronousServletsInTheOneShape(String path, int status, String code)
      throws Exception {
    String request = request("GET", "/servlet" + path, "");
    RawClient.Response response = send(request);
    assertThat(response.status()).isEqualTo(status);
    assertThat(response.body()).startsWith("{\"error\":{\"code\":\"" + code + "\"");
    assertThat(response.header("X-Request-Id")).isPresent();
    completesOnce(request, " " + status);
  }

  @ParameterizedTest
  @CsvSource({"/timeout-writing, 503", "/throws-writing, 409"})
  void stopsTheWriterOfARequestThatEndsWithoutIt(String path, int status) throws Exception {
    int before = gateway.writersStopped.get();
    String request = request("GET", "/servlet/async" + path, "");
    RawClient.Response response = send(request);
    assertThat(response.status()).isEqualTo(status);
    assertThat(response.body()).startsWith("{\"error\":");
    await().untilAsserted(() -> assertThat(gateway.writersStopped).hasValue(before + 1));
    completesOnce(request, " " + status);
  }

  @Test
  void handsAConnectionToAnotherProtocol_behindAuth() throws Exception {
    String[] upgrade = {"Connection: Upgrade", "Upgrade: shout"};
    assertThat(get("/servlet/upgrade", upgrade).status()).isEqualTo(401);
    String request = request("GET", "/servlet/upgrade", "", upgrade[0], upgrade[1], GOOD);
    try (RawClient client = client()) {
      client.send(request);
      RawClient.Response response = client.read();
      assertThat(response.status()).isEqualTo(101);
      assertThat(response.header("Upgrade")).contains("shout");
      assertThat(response.header("X-Request-Id")).isPresent();
      client.readUntil("HELLO");
    }
    completesOnce(request, " 101");
    assertThat(guardLog.messages()).isEmpty();
  }

  @Test
  void answersAnUpgradeThatFails() throws Exception {
    String request =
        request("GET", "/servlet/upgrade-fails", "", "Connection: Upgrade", "Upgrade: shout");
    RawClient.Response response = send(request);
    assertThat(response.status()).isEqualTo(500);
    assertThat(response.body()).contains("\"internal_error\"");
    completesOnce(request, " 500");
  }

  @Test
  void tellsListenersThatARequestIsComplete() throws Exception {
    listenerIsToldOnce(answers("/async/timeout-answered", 200, "timed out"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"/cut", "/cut-fixed", "/short"})
  void cutsAnAsynchronousResponse_whichFailsHalfWay(String path) throws Exception {
    String request = request("GET", "/servlet/async" + path, "");
    try (RawClient client = client()) {
      client.send(request);
      assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
      assertThat(client.received()).doesNotContain("error", "<");
    }
    completesOnce(request, " -1");
  }

  @RepeatedTest(10)
  void takesAClientThatLeavesAStreamForWhatItIs() throws Exception {
    String request = request("GET", "/servlet/async/events", "");
    try (RawClient client = client()) {
      client.send(request);
      client.readUntil("first\n\n");
    }
    gateway.clientLeft.countDown();
    completesOnce(request, " -1");
    assertThat(guardLog.messages()).containsExactly("DEBUG http client went away");
    listenerIsToldOnce(request);
  }

  private void listenerIsToldOnce(String request) {
    await()
        .atMost(Duration.ofMinutes(1))
        .untilAsserted(() -> assertThat(gateway.listenersCompleted).containsOnlyOnce(id(request)));
  }

  @Test
  void answersOnce_whenCompletingRacesWithTheReturnOfTheThread() throws Exception {
    race(4_000);
  }

  @Test
  @Tag("soak")
  void answersOnce_whenCompletingRacesWithTheReturnOfTheThread100_000Times() throws Exception {
    race(100_000);
  }

  private void race(int requests) throws Exception {
    int clients = 8;
    AtomicInteger answered = new AtomicInteger();
    List<CompletableFuture<Void>> all = new ArrayList<>();
    String dispatched = request("GET", "/servlet/async/race?dispatch", "");
    String completed = request("GET", "/servlet/async/race?complete", "");
    for (int i = 0; i < clients; i++) {
      String request = i % 2 == 0 ? dispatched : completed;
      CompletableFuture<Void> done = new CompletableFuture<>();
      all.add(done);
      Thread.ofPlatform().start(() -> {
        try {
          for (int n = 0; n < requests / clients; ) {
            try (RawClient client = client()) {
              boolean open = true; // containers end a connection after a number of requests
              for (; open && n < requests / clients; n++) {
                client.forget();
                client.send(request);
                RawClient.Response response = client.read();
                if (response.status() == 201 && response.body().equals("raced")) {
                  answered.incrementAndGet();
                }
                open = response.header("Connection").isEmpty();
              }
            }
          }
          done.complete(null);
        } catch (Throwable t) {
          done.completeExceptionally(t);
        }
      });
    }
    CompletableFuture.allOf(all.toArray(CompletableFuture[]::new)).get();
    assertThat(answered).hasValue(requests);
    for (String request : List.of(dispatched, completed)) {
      await().untilAsserted(() -> assertThat(completed(request)).hasSize(requests / 2));
      assertThat(completed(request)).allMatch(line -> line.endsWith(" 201"));
    }
    assertThat(guardLog.messages()).isEmpty();
    System.out.println("async race on " + getClass().getSimpleName() + ": " + requests
        + " requests, each answered and completed once");
  }
}
