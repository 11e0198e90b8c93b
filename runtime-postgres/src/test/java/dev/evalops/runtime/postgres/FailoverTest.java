package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.testutil.PostgresPair;
import dev.evalops.runtime.testutil.PostgresServer;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** A primary that goes away under load, the standby in its place, and the former primary back as a standby. */
@Timeout(300)
class FailoverTest {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration SHORT = Duration.ofSeconds(3);
  private static final Duration DEFAULT = Duration.ofSeconds(10);
  private static PostgresPair pair;

  enum Fault {
    KILLED,
    STOPPED,
    CUT_OFF,
    /** A switchover: until the former primary comes back as a standby, commits on it wait for one. */
    NONE;

    void meet(PostgresServer primary) {
      switch (this) {
        case KILLED -> primary.kill();
        case STOPPED -> primary.pause();
        case CUT_OFF -> pair.cutOff(primary);
        case NONE -> {}
      }
    }
  }

  @BeforeAll
  static void start() {
    pair = PostgresPair.start();
    try (HikariDataSource db = open(SHORT);
        Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("CREATE TABLE items (n bigint)");
    } catch (SQLException e) {
      throw new IllegalStateException(e);
    }
  }

  @AfterAll
  static void stop() {
    pair.close();
  }

  private static HikariDataSource open(Duration connectionTimeout) {
    return Postgres.builder(pair.url())
        .configure(pool -> {
          pool.setMaximumPoolSize(3);
          pool.setConnectionTimeout(connectionTimeout.toMillis());
        })
        .open();
  }

  /** More threads than connections, which write until they are stopped. */
  private static final class Writers implements AutoCloseable {
    private static final AtomicLong NUMBERS = new AtomicLong();

    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final List<Future<?>> running = new ArrayList<>();
    private final Set<Long> answered = ConcurrentHashMap.newKeySet();
    private final HikariDataSource db;
    private volatile boolean stopping;

    Writers(HikariDataSource db, int many) {
      this.db = db;
      for (int i = 0; i < many; i++) {
        running.add(threads.submit(this::write));
      }
    }

    private void write() {
      while (!stopping) {
        long n = NUMBERS.incrementAndGet();
        try (Connection connection = db.getConnection();
            PreparedStatement insert =
                connection.prepareStatement("INSERT INTO items VALUES (?)")) {
          insert.setLong(1, n);
          insert.execute();
          answered.add(n);
        } catch (SQLException failure) {
          assertThat(FailureKind.of(failure)).as("%s", failure).isEqualTo(FailureKind.UNAVAILABLE);
        }
      }
    }

    void awaitMore(int writes) {
      int until = answered.size() + writes;
      await()
          .atMost(SOON)
          .until(() -> answered.size() >= until || running.stream().anyMatch(Future::isDone));
    }

    Set<Long> stop() throws Exception {
      stopping = true;
      for (Future<?> each : running) {
        each.get(SOON.toSeconds(), TimeUnit.SECONDS);
      }
      return answered;
    }

    @Override
    public void close() {
      stopping = true;
      threads.shutdownNow();
    }
  }

  private static Set<Long> stored(PostgresServer server) throws SQLException {
    try (Connection connection = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test");
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT n FROM items")) {
      Set<Long> stored = new HashSet<>();
      while (rows.next()) {
        stored.add(rows.getLong(1));
      }
      return stored;
    }
  }

  @Test
  void writesReachTheNewPrimary_andNothingAnsweredIsLost() throws Exception {
    for (Fault fault : List.of(Fault.KILLED, Fault.CUT_OFF)) {
      writesReachTheNewPrimary(fault, SHORT);
    }
  }

  @Test
  @Tag("soak")
  void writesReachTheNewPrimary_andNothingAnsweredIsLost_soak() throws Exception {
    for (int i = 0; i < 3; i++) {
      for (Fault fault : Fault.values()) {
        System.out.printf(
            "postgres: primary %s, %d ms from promotion to the first success%n",
            fault, writesReachTheNewPrimary(fault, DEFAULT).toMillis());
      }
    }
  }

  /** Returns the time from the promotion to the first success. */
  private static Duration writesReachTheNewPrimary(Fault fault, Duration connectionTimeout)
      throws Exception {
    try (HikariDataSource db = open(connectionTimeout);
        Writers writers = new Writers(db, 8)) {
      writers.awaitMore(100);
      fault.meet(pair.primary());
      pair.promote();
      long begin = System.nanoTime();
      int before = writers.answered.size();
      if (fault == Fault.NONE) {
        pair.rejoin();
      }
      await().atMost(SOON).until(() -> writers.answered.size() > before);
      Duration first = Duration.ofNanos(System.nanoTime() - begin);
      writers.awaitMore(100);
      if (fault != Fault.NONE) {
        pair.rejoin();
      }
      writers.awaitMore(100);
      Set<Long> answered = writers.stop();
      assertThat(stored(pair.primary())).containsAll(answered);
      return first;
    }
  }
}
