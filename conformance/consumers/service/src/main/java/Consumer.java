import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** Serves, and asks itself. */
final class Consumer {
  private Consumer() {}

  public static void main(String[] arguments) throws Exception {
    try (HttpService http = HttpService.builder(0)
            .filters(HttpFilters.requestId())
            .handle("/healthz", HttpEndpoints.health("consumer"))
            .start();
        HttpClient client = HttpClient.newHttpClient()) {
      HttpRequest request = HttpRequest.newBuilder(
              URI.create("http://127.0.0.1:" + http.port() + "/healthz"))
          .timeout(Duration.ofSeconds(20))
          .build();
      HttpResponse<String> response =
          client.send(request, HttpResponse.BodyHandlers.ofString());
      if (response.statusCode() != 200 || !response.body().contains("consumer")) {
        throw new IllegalStateException(response.statusCode() + " " + response.body());
      }
    }
    System.out.println("served on Java " + Runtime.version().feature());
  }
}
