package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.PostgresServer.TestSchema;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;

/** SIGTERM to a real process with some hundred requests in flight, some of them slow. */
class DrainTest {
  private static final String TOKEN = "token-of-ann";
  private static final int FAST_CLIENTS = 300;
  private static final int SLOW_CLIENTS = 8;
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final Duration DEADLINE = Duration.ofSeconds(60);

  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  @Test
  void answersEveryAcceptedRequest_whenTerminatedUnderLoad() throws Exception {
    try (TestSchema schema = PostgresServer.shared().schema();
        IdentityServer identity =
            IdentityServer.start().person(TOKEN, "ann", "org-1", "notes:read", "notes:write")) {
      terminateUnderLoad(schema, identity);
    }
  }

  private void terminateUnderLoad(TestSchema schema, IdentityServer identity) throws Exception {
    Map<String, String> environment = Map.of(
        "DATABASE_URL", schema.url(),
        "REDIS_URL", RedisServer.shared().url(),
        "NATS_URL", NatsServer.shared().url(),
        "IDENTITY_URL", identity.url().toString(),
        "RATE_LIMIT_PER_SECOND", "100000",
        "RATE_LIMIT_BURST", "100000",
        "PORT", "0");
    try (ServiceProcess service = ServiceProcess.start(environment, line -> {});
        ExecutorService clients = Executors.newVirtualThreadPerTaskExecutor()) {
      URI base = URI.create("http://localhost:" + service.awaitPort(SOON));
      List<String> notes = new ArrayList<>();
      for (int i = 0; i < SLOW_CLIENTS; i++) {
        notes.add(create(base));
      }

      try (Connection lock = schema.dataSource().getConnection()) {
        lockNotes(lock, notes);
        List<Future<Integer>> slow = new ArrayList<>();
        for (String note : notes) {
          slow.add(clients.submit(
              () -> client.send(update(base, note), BodyHandlers.discarding()).statusCode()));
        }
        CountDownLatch running = new CountDownLatch(FAST_CLIENTS);
        List<Future<Integer>> fast = new ArrayList<>();
        for (int i = 0; i < FAST_CLIENTS; i++) {
          String note = notes.get(i % notes.size());
          fast.add(clients.submit(() -> readUntilRefused(base.resolve(note), running)));
        }
        assertThat(running.await(SOON.toSeconds(), TimeUnit.SECONDS)).isTrue();
        awaitBlockedUpdates(schema);

        service.terminate();

        int answered = 0;
        for (Future<Integer> reader : fast) {
          answered += reader.get(SOON.toSeconds(), TimeUnit.SECONDS);
        }
        assertThat(answered).isGreaterThan(FAST_CLIENTS);
        assertThat(slow).noneMatch(Future::isDone);
        lock.rollback();
        for (Future<Integer> writer : slow) {
          assertThat(writer.get(SOON.toSeconds(), TimeUnit.SECONDS)).isEqualTo(200);
        }
      }
      assertThat(service.awaitExit(DEADLINE))
          .as("exit status; log:\n%s", service.log())
          .contains(143);
      assertThat(service.log()).contains("notes is stopping").doesNotContain("ERROR");
    }
  }

  /** Reads again and again; every request that was sent must be answered, until a new connection is refused. */
  private int readUntilRefused(URI note, CountDownLatch running)
      throws IOException, InterruptedException {
    int answered = 0;
    while (true) {
      try {
        HttpResponse<Void> response = client.send(
            HttpRequest.newBuilder(note)
                .header("Authorization", "Bearer " + TOKEN)
                .timeout(SOON)
                .build(),
            BodyHandlers.discarding());
        assertThat(response.statusCode()).isEqualTo(200);
        answered++;
        if (answered == 2) {
          running.countDown();
        }
      } catch (ConnectException e) {
        return answered;
      }
    }
  }

  private String create(URI base) throws IOException, InterruptedException {
    HttpRequest request = HttpRequest.newBuilder(base.resolve("/v1/notes"))
        .header("Authorization", "Bearer " + TOKEN)
        .header("Idempotency-Key", UUID.randomUUID().toString())
        .header("Content-Type", "application/json")
        .POST(BodyPublishers.ofString("{\"title\":\"slow\"}"))
        .build();
    HttpResponse<String> response = client.send(request, BodyHandlers.ofString());
    assertThat(response.statusCode()).as(response.body()).isEqualTo(201);
    return response.headers().firstValue("Location").orElseThrow();
  }

  private static HttpRequest update(URI base, String note) {
    return HttpRequest.newBuilder(base.resolve(note))
        .header("Authorization", "Bearer " + TOKEN)
        .header("Idempotency-Key", UUID.randomUUID().toString())
        .header("Content-Type", "application/json")
        .header("If-Match", "\"1\"")
        .PUT(BodyPublishers.ofString("{\"title\":\"slower\"}"))
        .build();
  }

  private static void lockNotes(Connection lock, List<String> notes) throws Exception {
    lock.setAutoCommit(false);
    try (PreparedStatement select =
        lock.prepareStatement("SELECT 1 FROM notes WHERE id = ? FOR UPDATE")) {
      for (String note : notes) {
        select.setObject(1, UUID.fromString(note.substring(note.lastIndexOf('/') + 1)));
        select.execute();
      }
    }
  }

  private static void awaitBlockedUpdates(TestSchema schema) {
    String sql =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE notes%'";
    Awaitility.await().atMost(SOON).until(() -> {
      try (Connection connection = schema.dataSource().getConnection();
          var rows = connection.createStatement().executeQuery(sql)) {
        rows.next();
        return rows.getInt(1) == SLOW_CLIENTS;
      }
    });
  }
}
