package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresPair;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.nats.client.Connection;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PushSubscribeOptions;
import java.net.URI;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Three services on clusters whose leaders are killed, stopped and cut off, behind a client that spreads its calls. */
class ClusterTest {
  private static final Duration SOON = Duration.ofSeconds(90);
  private static final String TOKEN = "token-of-ann";
  private static final int SERVICES = 3;

  private enum Of {
    POSTGRES,
    NATS,
    REDIS
  }

  private enum How {
    KILLED,
    STOPPED,
    CUT_OFF
  }

  private record Fault(Of of, How how) {
    @Override
    public String toString() {
      return of + " " + how;
    }
  }

  private record Met(Fault fault, long at) {}

  @Test
  @Timeout(300)
  void nothingIsLostOrDoubled_whenLeadersGo() throws Exception {
    run(
        RedisServers::startCluster,
        List.of(new Fault(Of.POSTGRES, How.STOPPED), new Fault(Of.NATS, How.KILLED)),
        30,
        Duration.ZERO);
  }

  @Test
  @Tag("soak")
  void nothingIsLostOrDoubled_whenLeadersGo_soak() throws Exception {
    Duration minutes = Duration.ofMinutes(Integer.getInteger("notes.soak.minutes", 10));
    List<Fault> faults = new ArrayList<>();
    for (How how : How.values()) {
      for (Of of : Of.values()) {
        faults.add(new Fault(of, how));
      }
    }
    System.out.print(run(RedisServers::startCluster, faults, 200, minutes));
  }

  @Test
  @Tag("soak")
  void nothingIsLostOrDoubled_whenSentinelsChooseAnotherMaster_soak() throws Exception {
    List<Fault> faults = new ArrayList<>();
    for (How how : How.values()) {
      faults.add(new Fault(Of.REDIS, how));
    }
    System.out.print(run(RedisServers::startSentinels, faults, 200, Duration.ZERO));
  }

  /** Meets each fault once, and all of them again until the time is over; returns the figures. */
  private static String run(
      Supplier<RedisServers> redisServers, List<Fault> faults, int perSecond, Duration time)
      throws Exception {
    try (Lifecycle life = Lifecycle.open()) {
      PostgresPair postgres = life.add("postgres", PostgresPair.start());
      NatsCluster nats = life.add("nats", NatsCluster.start());
      RedisServers redis = life.add("redis", redisServers.get());
      List<URI> services = services(life, postgres, nats, redis);
      Callers callers = life.add("callers", Callers.start(services, TOKEN, perSecond));
      awaitMore(callers, 3 * perSecond);
      List<Met> met = new ArrayList<>();
      long begin = System.nanoTime();
      do {
        for (Fault fault : faults) {
          met.add(new Met(fault, System.nanoTime()));
          if (fault.of() == Of.POSTGRES) {
            failover(fault.how(), postgres);
            awaitMore(callers, 3 * perSecond); // while the former primary is as it is
            postgres.rejoin();
          } else if (fault.of() == Of.NATS) {
            meet(fault.how(), nats);
          } else {
            meet(fault.how(), redis);
          }
          awaitMore(callers, 3 * perSecond);
        }
      } while (System.nanoTime() - begin < time.toNanos());
      long end = System.nanoTime();
      callers.stop();
      assertThat(callers.failures()).isEmpty();
      long changes = assertWhole(callers, postgres, nats);
      return figures(callers, met, end, changes);
    }
  }

  private static List<URI> services(
      Lifecycle life, PostgresPair postgres, NatsCluster nats, RedisServers redis)
      throws Exception {
    IdentityServer identity = life.add("identity", IdentityServer.start());
    identity.person(TOKEN, "ann", "org-1", "notes:read", "notes:write");
    Map<String, String> environment = Map.of(
        "DATABASE_URL",
        postgres.url(),
        "REDIS_URL",
        redis.url(),
        "NATS_URL",
        nats.url(),
        "NATS_REPLICAS",
        "3",
        "IDENTITY_URL",
        identity.url().toString(),
        "RATE_LIMIT_PER_SECOND",
        "100000",
        "RATE_LIMIT_BURST",
        "100000",
        "PORT",
        "0");
    List<ServiceProcess> processes = new ArrayList<>();
    for (int i = 0; i < SERVICES; i++) {
      processes.add(life.add("service " + i, ServiceProcess.start(environment, line -> {})));
    }
    List<URI> services = new ArrayList<>();
    for (ServiceProcess each : processes) {
      services.add(URI.create("http://localhost:" + each.awaitPort(SOON)));
    }
    return services;
  }

  private static void awaitMore(Callers callers, int changes) {
    int until = callers.changes().size() + changes;
    await()
        .atMost(SOON.plusSeconds(changes / 10))
        .until(() -> callers.changes().size() >= until || !callers.failures().isEmpty());
  }

  private static void failover(How how, PostgresPair postgres) {
    switch (how) {
      case KILLED -> postgres.primary().kill();
      case STOPPED -> postgres.primary().pause();
      case CUT_OFF -> postgres.cutOff(postgres.primary());
    }
    postgres.promote();
  }

  private static void meet(How how, NatsCluster nats) {
    await().atMost(SOON).until(() -> nats.leader("NOTES").isPresent());
    NatsServer leader = nats.leader("NOTES").orElseThrow();
    switch (how) {
      case KILLED -> leader.kill();
      case STOPPED -> leader.pause();
      case CUT_OFF -> nats.cutOff(leader);
    }
    await()
        .atMost(SOON)
        .until(() -> nats.leader("NOTES").filter(now -> now != leader).isPresent());
    switch (how) {
      case KILLED -> leader.restart();
      case STOPPED -> leader.resume();
      case CUT_OFF -> nats.heal(leader);
    }
    nats.awaitReady();
  }

  private static void meet(How how, RedisServers redis) {
    List<RedisServer> masters = redis.masters();
    RedisServer master = masters.getFirst();
    switch (how) {
      case KILLED -> master.kill();
      case STOPPED -> master.pause();
      case CUT_OFF -> redis.cutOff(master);
    }
    if (how == How.CUT_OFF && masters.size() > 1) { // the nodes of a cluster hear each other
      LockSupport.parkNanos(Duration.ofSeconds(10).toNanos());
    } else {
      await()
          .atMost(SOON)
          .until(() -> redis.masters().stream().anyMatch(now -> !masters.contains(now)));
    }
    switch (how) {
      case KILLED -> master.restart();
      case STOPPED -> master.resume();
      case CUT_OFF -> redis.heal(master);
    }
    redis.awaitReady();
  }

  /**
   * What was answered is committed; what is committed is in the stream and in the feed, once. Returns how many changes
   * there are.
   */
  private static long assertWhole(Callers callers, PostgresPair postgres, NatsCluster nats)
      throws Exception {
    try (HikariDataSource db = Postgres.open(postgres.url())) {
      await()
          .atMost(SOON)
          .until(() -> changes(db, "SELECT id, 1 FROM change_outbox").isEmpty());
      List<String> committed =
          changes(db, "SELECT aggregate_id, aggregate_version FROM change_journal");
      assertThat(committed).doesNotHaveDuplicates().containsAll(callers.changes());
      assertThat(changes(db, "SELECT id, 1 FROM notes")).hasSize(callers.created());

      assertThat(stream(nats)).containsExactlyInAnyOrderElementsOf(committed);
      await()
          .atMost(SOON)
          .until(() -> changes(db, "SELECT note_id, version FROM feed").size() >= committed.size());
      assertThat(changes(db, "SELECT note_id, version FROM feed"))
          .containsExactlyInAnyOrderElementsOf(committed);
      return committed.size();
    }
  }

  private static List<String> changes(HikariDataSource db, String sql) throws SQLException {
    try (java.sql.Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      List<String> changes = new ArrayList<>();
      while (rows.next()) {
        changes.add(rows.getString(1) + ":" + rows.getLong(2));
      }
      return changes;
    }
  }

  private static List<String> stream(NatsCluster nats) throws Exception {
    Options options = Options.builder().servers(nats.url().split(",")).build();
    try (Connection connection = Nats.connect(options)) {
      long all = connection
          .jetStreamManagement()
          .getStreamInfo("NOTES")
          .getStreamState()
          .getMsgCount();
      JetStreamSubscription subscription = connection
          .jetStream()
          .subscribe(
              "notes.changes.>", PushSubscribeOptions.builder().ordered(true).build());
      List<String> changes = new ArrayList<>();
      while (changes.size() < all) {
        Message message = subscription.nextMessage(SOON);
        assertThat(message).as("message %d of %d", changes.size(), all).isNotNull();
        Event event = NatsBus.read(message);
        changes.add(event.aggregateId().orElseThrow() + ":" + event.version().orElseThrow());
      }
      return changes;
    }
  }

  private static String figures(Callers callers, List<Met> met, long end, long changes) {
    StringBuilder lines = new StringBuilder();
    lines.append(String.format("cluster: %s%n", callers.figures()));
    lines.append(String.format(
        "cluster: %d changes committed, as many in the stream and in the feed, none doubled%n",
        changes));
    for (int i = 0; i < met.size(); i++) {
      long until = i + 1 < met.size() ? met.get(i + 1).at() : end;
      lines.append(String.format(
          "cluster: %-16s longest time without a change answered %6d ms%n",
          met.get(i).fault(), callers.longestPause(met.get(i).at(), until).toMillis()));
    }
    return lines.toString();
  }
}
