package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import org.junit.jupiter.api.Test;

class GuardTest {
  @Test
  void answersJson() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestId(), HttpFilters.browserGuards())
            .handle("/healthz", HttpEndpoints.health("notes"))
            .start();
        RawClient client = new RawClient(service)) {
      RawClient.Response response = client.get("/healthz");
      assertThat(response.status()).isEqualTo(200);
      assertThat(response.body()).isEqualTo("{\"service\":\"notes\",\"status\":\"ok\"}\n");
    }
  }
}
