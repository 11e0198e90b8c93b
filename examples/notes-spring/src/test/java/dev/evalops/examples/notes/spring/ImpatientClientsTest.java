package dev.evalops.examples.notes.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.RawClient;
import java.io.IOException;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Clients that leave in the middle of a request, reset their connection or send half a body, beside patient ones. */
class ImpatientClientsTest {
  private static final int CLIENTS = 8;
  private static final String NOTE = "{\"title\":\"milk\",\"body\":\"two litres\"}";
  private static final Pattern LOGGED = Pattern.compile("request_id=\"?(t-[0-9-]+)");
  private static final Pattern OURS =
      Pattern.compile(" (\\d+) +\\d+ +dev\\.evalops\\.runtime\\.servlet\\.Bridge\\b");

  // By the id of the request.
  private final Set<String> whole = ConcurrentHashMap.newKeySet();
  private final Set<String> half = ConcurrentHashMap.newKeySet();
  private final Set<String> reset = ConcurrentHashMap.newKeySet();
  private final Set<String> keys = ConcurrentHashMap.newKeySet();
  private final List<Throwable> failures = new CopyOnWriteArrayList<>();
  private final AtomicInteger number = new AtomicInteger();

  @Test
  void leaveNothingBehind(@TempDir Path folder) throws Exception {
    meet(folder, Duration.ofSeconds(5));
  }

  @Test
  @Tag("soak")
  void leaveNothingBehind_soak(@TempDir Path folder) throws Exception {
    meet(folder, Duration.ofMinutes(5));
  }

  private void meet(Path folder, Duration time) throws Exception {
    Map<String, String> noLimit =
        Map.of("RATE_LIMIT_PER_SECOND", "100000", "RATE_LIMIT_BURST", "100000");
    try (Service service = new Service(NotesApplication.class, folder, noLimit)) {
      long end = System.nanoTime() + time.toNanos();
      List<Thread> clients = new ArrayList<>();
      for (int seed = 0; seed < CLIENTS; seed++) {
        Random random = new Random(seed);
        clients.add(Thread.ofPlatform().start(() -> {
          try {
            while (System.nanoTime() < end && failures.isEmpty()) {
              request(service, random);
            }
          } catch (Throwable failure) {
            failures.add(failure);
          }
        }));
      }
      for (Thread client : clients) {
        client.join();
      }
      assertThat(failures).isEmpty();
      assertThat(List.of(whole, half, reset)).noneMatch(Set::isEmpty);

      await().until(() -> logged(service).keySet().containsAll(whole));
      await().until(() -> logged(service).keySet().containsAll(half));
      // One may be the outbox' own.
      await()
          .untilAsserted(() ->
              assertThat(metrics(service)).containsPattern("notes_db_in_use_connections [01]\\."));
      assertThat(logged(service).values()).allMatch(times -> times == 1);
      assertThat(service.log()).doesNotContain(" ERROR ", "status=500");
      assertThat(notes(service)).isEqualTo(keys.size());
      await().untilAsserted(() -> assertThat(bridges(service)).isLessThan(10 * CLIENTS));
      System.out.printf(
          "impatient clients: %d requests answered, %d left, %d reset; %d notes, one for each key%n",
          whole.size(), half.size(), reset.size(), keys.size());
    }
  }

  private void request(Service service, Random random) throws Exception {
    String id = "t-" + number.incrementAndGet();
    switch (random.nextInt(5)) {
      case 0 -> {
        HttpResponse<String> response = service.send(service
            .request("/v1/notes")
            .header("Authorization", "Bearer " + Service.ANN)
            .header("X-Request-Id", id)
            .build());
        assertThat(response.statusCode()).isEqualTo(200);
        whole.add(id);
      }
      case 1 -> create(service, "key-" + id);
      case 2 -> {
        // Leaves before the answer, and asks again until there is one.
        try (RawClient client = new RawClient(service.port())) {
          client.send(create(id, "key-" + id, 0));
        }
        half.add(id);
        create(service, "key-" + id);
      }
      case 3 -> {
        try (RawClient client = new RawClient(service.port())) {
          client.send(create(id, "half-" + id, 1000));
          client.socket().shutdownOutput();
        }
        half.add(id);
      }
      default -> {
        try (RawClient client = new RawClient(service.port())) {
          client.socket().setSoLinger(true, 0);
          client.send(create(id, "reset-" + id, 1000));
          LockSupport.parkNanos(random.nextInt(5_000_000)); // anywhere in the request
        }
        reset.add(id);
      }
    }
  }

  /** The text of a request that lacks so many bytes of what it announces. */
  private static String create(String id, String key, int missing) {
    return "POST /v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: "
        + id + "\r\nIdempotency-Key: " + key + "\r\nAuthorization: Bearer " + Service.ANN
        + "\r\nContent-Length: " + (NOTE.length() + missing) + "\r\n\r\n" + NOTE;
  }

  /** Asks until there is an answer that is no refusal for the moment. */
  private void create(Service service, String key) throws Exception {
    HttpRequest request = service
        .request("/v1/notes")
        .header("Authorization", "Bearer " + Service.ANN)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key)
        .POST(BodyPublishers.ofString(NOTE))
        .build();
    await().until(() -> {
      int status = service.send(request).statusCode();
      assertThat(status).isIn(201, 409);
      return status == 201;
    });
    keys.add(key);
  }

  private static Map<String, Long> logged(Service service) {
    return LOGGED
        .matcher(service.log())
        .results()
        .collect(Collectors.groupingBy(each -> each.group(1), Collectors.counting()));
  }

  private static String metrics(Service service) throws IOException, InterruptedException {
    return service.send(service.request("/metrics").build()).body();
  }

  private static int notes(Service service) throws SQLException {
    try (Connection connection = service.database().getConnection();
        Statement statement = connection.createStatement();
        ResultSet count = statement.executeQuery("SELECT count(*) FROM notes")) {
      count.next();
      return count.getInt(1);
    }
  }

  /** How many requests are reachable in the heap of the service. */
  private static int bridges(Service service) throws IOException {
    Process jcmd = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "jcmd").toString(),
            Long.toString(service.processId()),
            "GC.class_histogram")
        .redirectErrorStream(true)
        .start();
    String histogram = new String(jcmd.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(histogram).contains("java.lang.String");
    return OURS.matcher(histogram)
        .results()
        .mapToInt(line -> Integer.parseInt(line.group(1)))
        .sum();
  }
}
