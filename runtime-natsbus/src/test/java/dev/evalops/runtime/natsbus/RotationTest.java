package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.startup.Credentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntFunction;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

@Timeout(120)
class RotationTest {
  private static final Duration BOUND = Duration.ofSeconds(60);
  private static final int WRITERS = 4;

  private final AtomicReference<Credentials> given = new AtomicReference<>();
  private final int monitor = FreePort.next();

  @TempDir
  Path temp;

  @Test
  void losesNoChange_andLeavesNoOldConnection_whenThePasswordIsReplacedUnderLoad()
      throws Exception {
    rotations(3, Duration.ofSeconds(2), "bob", RotationTest::password);
  }

  @Test
  void losesNoChange_andLeavesNoOldConnection_whenTheTokenIsReplacedUnderLoad() throws Exception {
    rotations(
        1, Duration.ofSeconds(2), "", i -> "authorization { token: \"S3cret/:@ " + i + "\" }");
  }

  @Test
  void leavesNoOldConnection_whenTheServerTakesTheOldUserToo() throws Exception {
    String both = "authorization { users: [ {user: old, password: S3cret-a},"
        + " {user: new, password: S3cret-b} ] }";
    given.set(new Credentials("old", "S3cret-a"));
    try (ConfiguredNats server = server(both);
        NatsBus bus = bus(server).rotationTimeout(Duration.ofMillis(300)).open()) {
      assertThat(bus.publish(change("a", 1))).isEqualTo(Outcome.STORED);
      assertThat(users()).containsExactly("old");
      given.set(new Credentials("new", "S3cret-b"));
      await().atMost(BOUND).until(() -> users().equals(List.of("new")));
      assertThat(bus.publish(change("a", 2))).isEqualTo(Outcome.STORED);
    }
  }

  @Test
  @Tag("soak")
  @Timeout(1800)
  void losesNoChange_andLeavesNoOldConnectionAfterAMinute_inTenRotations() throws Exception {
    rotations(10, Duration.ofMinutes(1), "bob", RotationTest::password);
  }

  private static String password(int i) {
    return "authorization { users: [ {user: bob, password: \"S3cret/:@ " + i + "\"} ] }";
  }

  private void rotations(
      int count, Duration within, String user, IntFunction<String> configurations)
      throws Exception {
    Path file = Files.writeString(temp.resolve("password"), "S3cret/:@ 0\n");
    List<Throwable> failures = new CopyOnWriteArrayList<>();
    Map<String, Integer> stored = new ConcurrentHashMap<>();
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    AtomicBoolean stop = new AtomicBoolean();
    List<Thread> writers = new ArrayList<>();
    try (ConfiguredNats server = server(configurations.apply(0));
        Logs logs = new Logs();
        NatsBus bus = bus(server)
            .credentials(Credentials.fromFile(user, file))
            .rotationTimeout(within)
            .publishTimeout(Duration.ofSeconds(30))
            .open();
        EventConsumer consumer = bus.consumer("notes.changes.>", "indexer")
            .start(event -> handled.merge(event.id(), 1, Integer::sum))) {
      for (int i = 0; i < WRITERS; i++) {
        String writer = "w" + i;
        writers.add(Thread.ofPlatform().start(() -> {
          for (int n = 1; !stop.get(); n++) {
            UUID id = UUID.randomUUID();
            try {
              bus.publish(change(writer, n).eventId(id));
              stored.put(id.toString(), 1);
            } catch (RuntimeException failure) {
              failures.add(failure);
            }
          }
        }));
      }
      long slowest = 0;
      for (int i = 1; i <= count; i++) {
        Instant before = Instant.now();
        long at = System.nanoTime();
        if (i % 2 == 0) { // some secret stores tell the server first, some the client
          server.reload(monitored(configurations.apply(i)));
        }
        Path next = Files.writeString(temp.resolve("next"), "S3cret/:@ " + i + "\n");
        Files.move(next, file, StandardCopyOption.REPLACE_EXISTING);
        if (i % 2 == 1) {
          server.reload(monitored(configurations.apply(i)));
        }
        await().atMost(within.plus(BOUND)).until(() -> {
          List<Instant> started = started();
          return !started.isEmpty() && started.stream().allMatch(before::isBefore);
        });
        slowest = Math.max(slowest, System.nanoTime() - at);
        int known = stored.size();
        await().atMost(BOUND).until(() -> stored.size() > known);
      }
      stop.set(true);
      for (Thread each : writers) {
        each.join();
      }
      await().atMost(BOUND).until(() -> handled.keySet().containsAll(stored.keySet()));
      System.out.printf(
          "nats: %d rotations of the password, %d changes stored, %d failed; no old connection"
              + " after %.1f s at most, bound %d s%n",
          count, stored.size(), failures.size(), slowest / 1e9, within.toSeconds());
      assertThat(logs.lines()).noneMatch(line -> line.contains("S3cret"));
    } finally {
      stop.set(true);
    }
    assertThat(failures).isEmpty();
    assertThat(stored).isNotEmpty();
  }

  @Test
  void readsTheSecretOnceMore_whenTheFirstLoginIsRefused() throws Exception {
    AtomicBoolean tried = new AtomicBoolean();
    try (ConfiguredNats server = server(password(0));
        NatsBus bus = bus(server)
            .credentials(
                () -> new Credentials("bob", refused(server) ? "S3cret/:@ 0" : wrong(tried)))
            .open()) {
      assertThat(bus.publish(change("a", 1))).isEqualTo(Outcome.STORED);
    }
    assertThat(tried).isTrue();
  }

  private static boolean refused(ConfiguredNats server) {
    try {
      return server.logged("authentication error") > 0;
    } catch (IOException unreadable) {
      throw new UncheckedIOException(unreadable);
    }
  }

  private static String wrong(AtomicBoolean tried) {
    tried.set(true);
    return "S3cret-wrong";
  }

  @Test
  void stopsAtOnce_whenTheFirstLoginIsRefused() throws Exception {
    given.set(new Credentials("bob", "S3cret-wrong"));
    try (ConfiguredNats server = server(password(0))) {
      assertThatThrownBy(() -> bus(server).open())
          .isInstanceOf(StartupException.class)
          .hasMessageStartingWith("nats_connect: ")
          .hasMessageContaining("Authorization Violation")
          .satisfies(failure -> {
            for (Throwable each = failure; each != null; each = each.getCause()) {
              assertThat(String.valueOf(each)).doesNotContain("S3cret").doesNotContain("bob");
            }
          });
    }
  }

  @Test
  void keepsTheConnection_whileTheNewSecretIsRefusedOrThereIsNone() throws Exception {
    given.set(new Credentials("bob", "S3cret/:@ 0"));
    try (ConfiguredNats server = server(password(0));
        Logs logs = new Logs();
        NatsBus bus = bus(server).rotationTimeout(Duration.ofMillis(300)).open()) {
      int version = 0;
      for (Credentials wrong : new Credentials[] {new Credentials("bob", "S3cret-early"), null}) {
        given.set(wrong);
        String said = wrong == null ? "supplier failed; open" : "the open connection stays";
        await().atMost(BOUND).until(() -> logs.count(said) > 0);
        assertThat(bus.publish(change("a", ++version))).isEqualTo(Outcome.STORED);
        assertThat(logs.count(said)).isEqualTo(1);
      }
      assertThat(bus.connection().getStatistics().getReconnects()).isZero();
      assertThat(logs.lines()).noneMatch(line -> line.contains("S3cret"));

      given.set(new Credentials("bob", "S3cret-early"));
      server.reload(monitored("authorization { users: [ {user: bob, password: S3cret-early} ] }"));
      await().atMost(BOUND).until(() -> bus.connection().getStatistics().getReconnects() > 0);
      assertThat(bus.publish(change("a", ++version))).isEqualTo(Outcome.STORED);
    }
  }

  @Test
  void refusesWhatContradictsItself() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> NatsBus.builder("nats://bob@h").stream("NOTES")
            .subjectPrefix("notes.changes")
            .credentials(given::get)
            .rotationTimeout(Duration.ZERO)
            .open())
        .withMessage(
            "rotationTimeout must be more than zero: PT0S; credentials are given: the url must"
                + " not have user or password");
  }

  private ConfiguredNats server(String configuration) throws Exception {
    return new ConfiguredNats(temp, monitored(configuration));
  }

  private String monitored(String configuration) {
    return configuration + "\nhttp: \"127.0.0.1:" + monitor + "\"";
  }

  private NatsBus.Builder bus(ConfiguredNats server) {
    return NatsBus.builder("nats://" + server.address()).stream("NOTES")
        .subjectPrefix("notes.changes")
        .credentials(given::get)
        .configure(options ->
            options.reconnectWait(Duration.ofMillis(50)).reconnectJitter(Duration.ofMillis(10)));
  }

  private static Change change(String id, long version) {
    return Change.of("note", id, "create").version(version);
  }

  private List<Instant> started() throws Exception {
    return connections()
        .valueStream()
        .map(each -> Instant.parse(each.get("start").asString()))
        .toList();
  }

  private List<String> users() throws Exception {
    return connections()
        .valueStream()
        .map(each -> each.path("authorized_user").asString(""))
        .toList();
  }

  private JsonNode connections() throws Exception {
    try (HttpClient http = HttpClient.newHttpClient()) {
      HttpRequest request = HttpRequest.newBuilder(
              URI.create("http://127.0.0.1:" + monitor + "/connz?auth=true"))
          .build();
      return JsonMapper.shared()
          .readTree(http.send(request, HttpResponse.BodyHandlers.ofString()).body())
          .get("connections");
    }
  }
}
