package dev.evalops.runtime.servlet;

import dev.evalops.runtime.http.HttpService;
import java.util.Map;

/** The JDK's server, without a servlet: what the others are measured by. */
class JdkTest extends Contract {
  private HttpService service;

  @Override
  int start(Gateway gateway) {
    service = gateway.routes(HttpService.builder(0), App.handler(gateway)).start();
    return service.port();
  }

  @Override
  void stop() {
    service.close();
  }

  @Override
  Map<String, Answer> differences() {
    return Map.of(
        "two lengths", new Answer(400, ITS_OWN),
        "length and encoding", new Answer(400, ITS_OWN));
  }
}
