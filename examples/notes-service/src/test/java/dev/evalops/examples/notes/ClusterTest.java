package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.mtls.ClientTls;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresPair;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.nats.client.Connection;
import io.nats.client.JetStreamManagement;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PushSubscribeOptions;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import javax.net.ssl.SSLSocket;
import org.awaitility.core.ConditionTimeoutException;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Three services on clusters whose leaders are killed, stopped and cut off, behind a client that spreads its calls. */
class ClusterTest {
  private static final Duration SOON = Duration.ofSeconds(90);
  private static final Duration STARTED = Duration.ofMinutes(5);
  private static final String TOKEN = "token-of-ann";
  private static final int SERVICES = 3;

  @TempDir
  private Path folder;

  private Certificates certificates;

  private enum Of {
    POSTGRES,
    NATS,
    REDIS,
    PASSWORDS,
    CERTIFICATES
  }

  private enum How {
    KILLED,
    STOPPED,
    CUT_OFF,
    REPLACED
  }

  private static final List<How> FAILURES = List.of(How.KILLED, How.STOPPED, How.CUT_OFF);

  private record Fault(Of of, How how) {
    @Override
    public String toString() {
      return of + " " + how;
    }
  }

  private record Met(Fault fault, long at) {}

  @Test
  @Timeout(600)
  void nothingIsLostOrDoubled_whenLeadersGo() throws Exception {
    run(
        RedisServers::startCluster,
        List.of(
            new Fault(Of.POSTGRES, How.STOPPED),
            new Fault(Of.CERTIFICATES, How.REPLACED),
            new Fault(Of.NATS, How.KILLED)),
        30,
        Duration.ZERO);
  }

  @Test
  @Tag("soak")
  void nothingIsLostOrDoubled_whenLeadersGo_soak() throws Exception {
    soak(RedisServers::startCluster);
  }

  @Test
  @Tag("soak")
  void nothingIsLostOrDoubled_whenSentinelsChooseAnotherMaster_soak() throws Exception {
    soak(RedisServers::startSentinels);
  }

  private void soak(Supplier<RedisServers> redis) throws Exception {
    Duration minutes = Duration.ofMinutes(Integer.getInteger("notes.soak.minutes", 10));
    List<Fault> faults = new ArrayList<>();
    for (How how : FAILURES) {
      for (Of of : List.of(Of.POSTGRES, Of.NATS, Of.REDIS)) {
        faults.add(new Fault(of, how));
      }
    }
    faults.add(3, new Fault(Of.PASSWORDS, How.REPLACED));
    faults.add(7, new Fault(Of.CERTIFICATES, How.REPLACED));
    int perSecond = Integer.getInteger("notes.soak.rate", 200);
    System.out.print(run(redis, faults, perSecond, minutes));
  }

  /** Meets each fault once, and all of them again until the time is over; returns the figures. */
  private String run(
      Supplier<RedisServers> redisServers, List<Fault> faults, int perSecond, Duration time)
      throws Exception {
    try (Lifecycle life = Lifecycle.open()) {
      PostgresPair postgres = life.add("postgres", PostgresPair.start());
      NatsCluster nats = life.add("nats", NatsCluster.start());
      RedisServers redis = life.add("redis", redisServers.get());
      certificates = new Certificates(folder);
      Logins logins = life.add("logins", new Logins(folder, postgres, nats, redis));
      List<URI> services = services(life, logins);
      ClientTls tls = life.add("client tls", clientTls());
      Callers callers =
          life.add("callers", Callers.start(tls.httpClient(), services, TOKEN, perSecond));
      awaitMore(callers, 3 * perSecond);
      List<Met> met = new ArrayList<>();
      long begin = System.nanoTime();
      do {
        for (Fault fault : faults) {
          met.add(new Met(fault, System.nanoTime()));
          switch (fault.of()) {
            case POSTGRES -> {
              failover(fault.how(), postgres);
              awaitMore(callers, 3 * perSecond); // while the former primary is as it is
              postgres.rejoin();
            }
            case NATS -> meet(fault.how(), nats);
            case REDIS -> meet(fault.how(), redis, logins);
            case PASSWORDS -> {
              logins.replace();
              await()
                  .pollInterval(Duration.ofSeconds(1))
                  .atMost(SOON)
                  .untilAsserted(() -> assertThat(logins.older()).isEmpty());
            }
            case CERTIFICATES -> {
              certificates.renew();
              for (URI service : services) {
                await().atMost(SOON).until(() -> showsTheNewCertificate(service));
              }
            }
          }
          awaitMore(callers, 3 * perSecond);
        }
      } while (System.nanoTime() - begin < time.toNanos());
      long end = System.nanoTime();
      callers.stop();
      assertThat(callers.failures()).isEmpty();
      String figures = figures(callers, met, end, nats.version());
      try {
        return figures + assertWhole(callers, postgres, nats, logins);
      } catch (AssertionError failure) {
        throw new AssertionError(figures, failure);
      }
    }
  }

  private ClientTls clientTls() {
    return ClientTls.builder()
        .ca(certificates.caFile())
        .certificate(
            certificates.certificateFile().toString(), certificates.keyFile().toString())
        .open();
  }

  private boolean showsTheNewCertificate(URI service) throws IOException {
    try (ClientTls tls = clientTls();
        SSLSocket socket = (SSLSocket) tls.sslContext()
            .getSocketFactory()
            .createSocket(service.getHost(), service.getPort())) {
      X509Certificate shown = (X509Certificate) socket.getSession().getPeerCertificates()[0];
      return shown.getSerialNumber().equals(certificates.serialNumber());
    }
  }

  private List<URI> services(Lifecycle life, Logins logins) throws Exception {
    IdentityServer identity = life.add("identity", IdentityServer.start(certificates));
    identity.person(TOKEN, "ann", "org-1", "notes:read", "notes:write");
    Map<String, String> environment = new HashMap<>(logins.environment());
    environment.putAll(Map.of(
        "NATS_REPLICAS",
        "3",
        "IDENTITY_URL",
        identity.url().toString(),
        "RATE_LIMIT_PER_SECOND",
        "100000",
        "RATE_LIMIT_BURST",
        "100000",
        "PORT",
        "0",
        "TLS_CA_FILE",
        certificates.caFile().toString(),
        "TLS_CERT_FILE",
        certificates.certificateFile().toString(),
        "TLS_KEY_FILE",
        certificates.keyFile().toString()));
    List<ServiceProcess> processes = new ArrayList<>();
    for (int i = 0; i < SERVICES; i++) {
      processes.add(life.add("service " + i, ServiceProcess.start(environment, line -> {})));
    }
    List<URI> services = new ArrayList<>();
    for (ServiceProcess each : processes) {
      services.add(URI.create("https://localhost:" + each.awaitPort(STARTED)));
    }
    return services;
  }

  private static void awaitMore(Callers callers, int changes) {
    int until = callers.changes().size() + changes;
    try {
      await()
          .atMost(SOON.plusSeconds(changes / 10))
          .until(() -> callers.changes().size() >= until || !callers.failures().isEmpty());
    } catch (ConditionTimeoutException late) {
      throw new AssertionError("too few changes: " + callers.figures(), late);
    }
  }

  private static void failover(How how, PostgresPair postgres) {
    switch (how) {
      case KILLED -> postgres.primary().kill();
      case STOPPED -> postgres.primary().pause();
      case CUT_OFF -> postgres.cutOff(postgres.primary());
      case REPLACED -> throw new IllegalArgumentException();
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
      case REPLACED -> throw new IllegalArgumentException();
    }
    await()
        .atMost(SOON)
        .until(() -> nats.leader("NOTES").filter(now -> now != leader).isPresent());
    switch (how) {
      case KILLED -> leader.restart();
      case STOPPED -> leader.resume();
      default -> nats.heal(leader);
    }
    nats.awaitReady();
  }

  private static void meet(How how, RedisServers redis, Logins logins) {
    List<RedisServer> masters = redis.masters();
    RedisServer master = masters.getFirst();
    switch (how) {
      case KILLED -> master.kill();
      case STOPPED -> master.pause();
      case CUT_OFF -> redis.cutOff(master);
      case REPLACED -> throw new IllegalArgumentException();
    }
    if (how == How.CUT_OFF && masters.size() > 1) { // the nodes of a cluster hear each other
      LockSupport.parkNanos(Duration.ofSeconds(10).toNanos());
    } else {
      await()
          .atMost(SOON)
          .until(() -> redis.masters().stream().anyMatch(now -> !masters.contains(now)));
    }
    switch (how) {
      case KILLED -> {
        master.restart();
        logins.tellRedis();
      }
      case STOPPED -> master.resume();
      default -> redis.heal(master);
    }
    redis.awaitReady();
  }

  /** What was answered is committed; what is committed is in the stream and in the feed, once. Returns a figure. */
  private static String assertWhole(
      Callers callers, PostgresPair postgres, NatsCluster nats, Logins logins) throws Exception {
    try (HikariDataSource db = Postgres.open(postgres.url())) {
      await()
          .atMost(SOON)
          .until(() -> changes(db, "SELECT id, 1 FROM change_outbox").isEmpty());
      List<String> committed =
          changes(db, "SELECT aggregate_id, aggregate_version FROM change_journal");
      assertThat(committed).doesNotHaveDuplicates().containsAll(callers.changes());
      assertThat(changes(db, "SELECT id, 1 FROM notes")).hasSize(callers.created());

      assertThat(stream(nats, logins)).containsExactlyInAnyOrderElementsOf(committed);
      try {
        await()
            .atMost(SOON)
            .until(
                () -> changes(db, "SELECT note_id, version FROM feed").size() >= committed.size());
      } catch (ConditionTimeoutException late) {
        throw new AssertionError(missing(db, committed, nats, logins), late);
      }
      assertThat(changes(db, "SELECT note_id, version FROM feed"))
          .containsExactlyInAnyOrderElementsOf(committed);
      return String.format(
          "cluster: %d changes committed, as many in the stream and in the feed, none doubled%n",
          committed.size());
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

  /** What is not in the feed, and what tells why. */
  private static String missing(
      HikariDataSource db, List<String> committed, NatsCluster nats, Logins logins)
      throws Exception {
    Set<String> missing = new TreeSet<>(committed);
    changes(db, "SELECT note_id, version FROM feed").forEach(missing::remove);
    StringBuilder report = new StringBuilder("not in the feed:\n");
    try (Connection connection = connect(nats, logins)) {
      for (Message message : messages(connection, "NOTES", "notes.changes.>")) {
        if (missing.contains(change(message))) {
          report.append(change(message)).append(' ').append(message.metaData()).append('\n');
          String id = NatsBus.read(message).id();
          report.append(
              changes(db, "SELECT event_id, 1 FROM event_inbox WHERE event_id = '" + id + "'"));
        }
      }
      for (Message message : messages(connection, "NOTES_DEAD", "dead.NOTES.>")) {
        report.append("dead: ").append(message.getHeaders()).append('\n');
      }
      JetStreamManagement management = connection.jetStreamManagement();
      report.append(management.getConsumerInfo("NOTES", "feed")).append('\n');
      report.append(management.getStreamInfo("NOTES")).append('\n');
    }
    return report.append(nats.report()).toString();
  }

  private static Connection connect(NatsCluster nats, Logins logins) throws Exception {
    return Nats.connect(Options.builder()
        .servers(nats.url().split(","))
        .userInfo(logins.user(), logins.password())
        .build());
  }

  private static String change(Message message) {
    Event event = NatsBus.read(message);
    return event.aggregateId().orElseThrow() + ":" + event.version().orElseThrow();
  }

  private static List<String> stream(NatsCluster nats, Logins logins) throws Exception {
    try (Connection connection = connect(nats, logins)) {
      return messages(connection, "NOTES", "notes.changes.>").stream()
          .map(ClusterTest::change)
          .toList();
    }
  }

  private static List<Message> messages(Connection connection, String stream, String subjects)
      throws Exception {
    long all =
        connection.jetStreamManagement().getStreamInfo(stream).getStreamState().getMsgCount();
    JetStreamSubscription subscription = connection
        .jetStream()
        .subscribe(subjects, PushSubscribeOptions.builder().ordered(true).build());
    List<Message> messages = new ArrayList<>();
    while (messages.size() < all) {
      Message message = subscription.nextMessage(SOON);
      assertThat(message).as("message %d of %d", messages.size(), all).isNotNull();
      messages.add(message);
    }
    return messages;
  }

  private static String figures(Callers callers, List<Met> met, long end, String natsVersion) {
    StringBuilder lines = new StringBuilder();
    lines.append(String.format("cluster: nats-server %s; %s%n", natsVersion, callers.figures()));
    for (int i = 0; i < met.size(); i++) {
      long until = i + 1 < met.size() ? met.get(i + 1).at() : end;
      lines.append(String.format(
          "cluster: %-21s longest time without a change answered %6d ms%n",
          met.get(i).fault(), callers.longestPause(met.get(i).at(), until).toMillis()));
    }
    return lines.toString();
  }
}
