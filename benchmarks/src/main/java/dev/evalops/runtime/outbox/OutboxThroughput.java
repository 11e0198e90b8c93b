package dev.evalops.runtime.outbox;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.LoggerContext;
import com.gruelbox.transactionoutbox.Dialect;
import com.gruelbox.transactionoutbox.Instantiator;
import com.gruelbox.transactionoutbox.Persistor;
import com.gruelbox.transactionoutbox.TransactionManager;
import com.gruelbox.transactionoutbox.TransactionOutbox;
import com.sun.management.OperatingSystemMXBean;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.changejournal.ChangeActor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.EventFormatBenchmark;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import io.nats.client.JetStream;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.PublishOptions;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.slf4j.LoggerFactory;

/**
 * What the outbox costs: a backlog relayed, beside the bare client with the same bytes in a window, and beside
 * gruelbox' transaction-outbox on the same servers, in turn; how long it takes from the commit to the stream; what is
 * asked of the database when nothing happens; and the round trips of a mutation.
 */
@SuppressWarnings("try") // what is opened is held for its close
public final class OutboxThroughput {
  private static final OperatingSystemMXBean PROCESS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private static final int ROUNDS = 5;
  private static final int CHANGES = 50_000;
  private static final int OF_GRUELBOX = 4_000;
  private static final int AGGREGATES = 5_000;
  private static final int WINDOW = 1024;
  private static final int GRUELBOX_THREADS = 32;
  private static final int PER_SECOND = 200;
  private static final int LATENCY_SECONDS = 20;
  private static final int IDLE_SECONDS = 20;

  private final HikariDataSource db;
  private final NatsBus bus;
  private final JetStream stream;
  private final JetStreamManagement management;

  private OutboxThroughput(HikariDataSource db, NatsBus bus) throws IOException {
    this.db = db;
    this.bus = bus;
    this.stream = bus.connection().jetStream();
    this.management = bus.connection().jetStreamManagement();
  }

  /**
   * Runs it and prints tables.
   *
   * @param arguments none; those of a second writer, when this starts one
   * @throws Exception if anything fails
   */
  public static void main(String[] arguments) throws Exception {
    if (arguments.length == 2) {
      secondWriter(arguments[0], arguments[1]);
      return;
    }
    ((LoggerContext) LoggerFactory.getILoggerFactory()).getLogger("ROOT").setLevel(Level.WARN);
    try (PostgresServer postgres = PostgresServer.start();
        NatsServer nats = NatsServer.start();
        PostgresServer.TestSchema schema =
            postgres.schema(Outbox.schema() + ChangeJournal.schema());
        HikariDataSource db = Postgres.builder(schema.url())
            .configure(pool -> pool.setMaximumPoolSize(GRUELBOX_THREADS + 4))
            .open();
        NatsBus bus = open(nats.url())) {
      OutboxThroughput bench = new OutboxThroughput(db, bus);
      bench.throughput();
      bench.latency(schema.url(), nats.url());
      idle(schema.url(), bus);
      roundTrips(schema.url(), bus);
    }
  }

  private static NatsBus open(String url) {
    return NatsBus.open(url, "NOTES", "notes.changes");
  }

  private EncodedEvent event(int number) {
    return bus.encode(change(number));
  }

  private static Change change(int number) {
    return Change.of("note", "n-" + number % AGGREGATES, "update")
        .organization("org-1")
        .sequence(number)
        .version(number)
        .payload(EventFormatBenchmark.PAYLOAD);
  }

  private record Run(double perSecond, double ownMicros, double serversMicros) {}

  private void throughput() throws Exception {
    Map<String, Callable<Run>> runs = new LinkedHashMap<>();
    runs.put("client alone, a window of 1024", this::client);
    runs.put("outbox", this::relayed);
    runs.put("transaction-outbox, 32 threads", this::gruelbox);
    Map<String, List<Run>> results = new LinkedHashMap<>();
    for (int round = -1; round < ROUNDS; round++) {
      for (Map.Entry<String, Callable<Run>> each : runs.entrySet()) {
        Run run = each.getValue().call();
        if (round >= 0) {
          results.computeIfAbsent(each.getKey(), name -> new ArrayList<>()).add(run);
        }
        management.purgeStream("NOTES");
      }
    }
    System.out.println(
        "| a backlog | changes/s | processor time of the service | of Postgres and NATS |");
    System.out.println("| --- | --- | --- | --- |");
    results.forEach((name, all) -> {
      double[] rates = all.stream().mapToDouble(Run::perSecond).sorted().toArray();
      System.out.printf(
          Locale.ROOT,
          "| %s | %,.0f (%,.0f-%,.0f) | %.1f us | %.1f us |%n",
          name,
          rates[rates.length / 2],
          rates[0],
          rates[rates.length - 1],
          all.stream().mapToDouble(Run::ownMicros).average().orElseThrow(),
          all.stream().mapToDouble(Run::serversMicros).average().orElseThrow());
    });
  }

  private static Run measured(int count, Callable<?> work) throws Exception {
    long own = PROCESS.getProcessCpuTime();
    long servers = serversCpuNanos();
    long begin = System.nanoTime();
    work.call();
    long end = System.nanoTime();
    return new Run(
        count * 1e9 / (end - begin),
        (PROCESS.getProcessCpuTime() - own) / 1e3 / count,
        (serversCpuNanos() - servers) / 1e3 / count);
  }

  private static long serversCpuNanos() {
    return ProcessHandle.current()
        .descendants()
        .mapToLong(
            process -> process.info().totalCpuDuration().map(Duration::toNanos).orElse(0L))
        .sum();
  }

  private Run client() throws Exception {
    List<EncodedEvent> events = new ArrayList<>();
    for (int i = 0; i < CHANGES; i++) {
      events.add(event(i));
    }
    return measured(CHANGES, () -> {
      Semaphore window = new Semaphore(WINDOW);
      for (EncodedEvent event : events) {
        window.acquire();
        Headers headers = new Headers();
        event.headers().forEach(headers::put);
        headers.put("Nats-Msg-Id", event.id());
        var unused = stream
            .publishAsync(NatsMessage.builder()
                .subject(event.subject())
                .headers(headers)
                .data(event.body())
                .build())
            .whenComplete((done, failure) -> window.release());
      }
      window.acquire(WINDOW);
      return null;
    });
  }

  private Run relayed() throws Exception {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      for (int i = 0; i < CHANGES; i++) {
        Rows.insert(tx, event(i));
        if (i % 1000 == 999) {
          tx.commit();
        }
      }
    }
    analyze("change_outbox");
    Run run = measured(CHANGES, () -> {
      try (Outbox outbox = Outbox.start(db, bus)) {
        while (outbox.oldest().isPresent()) {
          TimeUnit.MILLISECONDS.sleep(5);
        }
      }
      return null;
    });
    require(stored() == CHANGES, "not all are in the stream");
    return run;
  }

  private long stored() throws IOException, JetStreamApiException {
    return management.getStreamInfo("NOTES").getStreamState().getMsgCount();
  }

  private static void require(boolean fact, String otherwise) {
    if (!fact) {
      throw new IllegalStateException(otherwise);
    }
  }

  private void analyze(String table) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("VACUUM ANALYZE " + table);
    }
  }

  /** What gruelbox calls after the commit; keeps no order. */
  interface Publisher {
    /**
     * Publishes an event.
     *
     * @param id its id
     * @param subject where it goes
     * @param body what is in it
     */
    void publish(String id, String subject, String body);
  }

  private void publish(String id, String subject, String body) {
    try {
      stream.publish(
          subject,
          body.getBytes(StandardCharsets.UTF_8),
          PublishOptions.builder().messageId(id).build());
    } catch (IOException | JetStreamApiException e) {
      throw new IllegalStateException(e);
    }
  }

  private Run gruelbox() throws Exception {
    List<Runnable> committed = new ArrayList<>();
    var transactions = TransactionManager.fromDataSource(db);
    TransactionOutbox outbox = TransactionOutbox.builder()
        .transactionManager(transactions)
        .persistor(Persistor.forDialect(Dialect.POSTGRESQL_9))
        .instantiator(Instantiator.using(type -> (Publisher) this::publish))
        .submitter((entry, action) -> committed.add(() -> action.accept(entry)))
        .build();
    for (int i = 0; i < OF_GRUELBOX; i += 1000) {
      int first = i;
      transactions.inTransaction(() -> {
        for (int n = first; n < first + 1000; n++) {
          EncodedEvent event = event(n);
          outbox
              .schedule(Publisher.class)
              .publish(
                  event.id(), event.subject(), new String(event.body(), StandardCharsets.UTF_8));
        }
      });
    }
    analyze("txno_outbox");
    Run run = measured(OF_GRUELBOX, () -> {
      CountDownLatch left = new CountDownLatch(OF_GRUELBOX);
      try (ExecutorService threads = Executors.newFixedThreadPool(GRUELBOX_THREADS)) {
        committed.forEach(each -> threads.execute(() -> {
          each.run();
          left.countDown();
        }));
        left.await();
      }
      return null;
    });
    require(stored() == OF_GRUELBOX, "not all are in the stream");
    return run;
  }

  /** Two processes write and relay; the version of a change is the time before its insert. */
  private void latency(String databaseUrl, String natsUrl) throws Exception {
    Process other = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp",
            System.getProperty("java.class.path"),
            OutboxThroughput.class.getName(),
            databaseUrl,
            natsUrl)
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start();
    try {
      write(db, bus, () -> LATENCY_SECONDS * PER_SECOND <= stored());
    } finally {
      other.destroy();
    }
    other.waitFor();
    JetStreamSubscription subscription = stream.subscribe(
        "notes.changes.>", PushSubscribeOptions.builder().ordered(true).build());
    List<Double> millis = new ArrayList<>();
    int warmUp = 5 * PER_SECOND;
    for (long i = 0, all = stored(); i < all; i++) {
      Message message = Objects.requireNonNull(subscription.nextMessage(Duration.ofSeconds(30)));
      long written = NatsBus.read(message).version().orElseThrow();
      if (i >= warmUp) {
        millis.add((micros(message.metaData().timestamp().toInstant()) - written) / 1e3);
      }
    }
    double[] sorted = millis.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    System.out.printf(
        Locale.ROOT,
        "%nfrom before the insert to the stream, %d changes/s of two processes: p50 %.1f ms, p99 "
            + "%.1f ms, max %.1f ms (%d)%n",
        PER_SECOND,
        sorted[sorted.length / 2],
        sorted[sorted.length * 99 / 100],
        sorted[sorted.length - 1],
        sorted.length);
    management.purgeStream("NOTES");
  }

  private static long microsNow() {
    return micros(Instant.now());
  }

  private static long micros(Instant time) {
    return TimeUnit.SECONDS.toMicros(time.getEpochSecond()) + time.getNano() / 1000;
  }

  private static void write(HikariDataSource db, NatsBus bus, Callable<Boolean> enough)
      throws Exception {
    try (Outbox outbox = Outbox.start(db, bus);
        ScheduledExecutorService threads = Executors.newScheduledThreadPool(4)) {
      int[] number = new int[4];
      for (int i = 0; i < 4; i++) {
        int thread = i;
        var unused = threads.scheduleAtFixedRate(
            () -> {
              int change = 4 * number[thread]++ + thread;
              try (Connection tx = db.getConnection()) {
                tx.setAutoCommit(false);
                outbox.add(tx, change(change).version(microsNow()));
                tx.commit();
                outbox.wake();
              } catch (SQLException e) {
                throw new IllegalStateException(e);
              }
            },
            i * 10L,
            8 * 1000 / PER_SECOND,
            TimeUnit.MILLISECONDS);
      }
      while (!enough.call()) {
        TimeUnit.MILLISECONDS.sleep(100);
      }
      threads.shutdown();
      threads.awaitTermination(10, TimeUnit.SECONDS);
      while (outbox.pending() > 0) {
        TimeUnit.MILLISECONDS.sleep(10);
      }
    }
  }

  private static void secondWriter(String databaseUrl, String natsUrl) throws Exception {
    try (HikariDataSource db = Postgres.builder(databaseUrl).open();
        NatsBus bus = open(natsUrl)) {
      write(db, bus, () -> false);
    }
  }

  private static void idle(String databaseUrl, NatsBus bus) throws Exception {
    try (RoundTrips ofOne = RoundTrips.before(databaseUrl);
        RoundTrips ofOther = RoundTrips.before(databaseUrl);
        HikariDataSource db = Postgres.open(ofOne.url());
        HikariDataSource otherDb = Postgres.open(ofOther.url());
        Outbox one = Outbox.start(db, bus)) {
      TimeUnit.SECONDS.sleep(2);
      try (Outbox other = Outbox.start(otherDb, bus)) {
        TimeUnit.SECONDS.sleep(3);
        long relaying = ofOne.count();
        long waiting = ofOther.count();
        TimeUnit.SECONDS.sleep(IDLE_SECONDS);
        System.out.printf(
            Locale.ROOT,
            "idle: %.2f round trips/s of the one that relays, %.2f of one that waits%n",
            (double) (ofOne.count() - relaying) / IDLE_SECONDS,
            (double) (ofOther.count() - waiting) / IDLE_SECONDS);
      }
    }
  }

  private static void roundTrips(String databaseUrl, NatsBus bus) throws Exception {
    try (RoundTrips tap = RoundTrips.before(databaseUrl);
        HikariDataSource db = Postgres.builder(tap.url())
            .configure(pool -> pool.setMaximumPoolSize(1))
            .open();
        Connection tx = db.getConnection();
        Statement statement = tx.createStatement()) {
      statement.execute("CREATE TABLE mutated (id text, title text)");
      tx.setAutoCommit(false);
      long all = 0;
      long ofOutbox = 0;
      for (int i = 0; i < 20; i++) { // the last has prepared statements
        long begin = tap.count();
        statement.execute("INSERT INTO mutated VALUES ('" + i + "', 'milk')");
        ChangeJournal.mutation("note", "n-" + i, "create")
            .by(new ChangeActor("user", "u-1", "org-1"))
            .payload(Map.of("id", "n-" + i))
            .write(tx);
        long journaled = tap.count();
        Rows.insert(tx, bus.encode(change(i)));
        ofOutbox = tap.count() - journaled;
        tx.commit();
        all = tap.count() - begin;
      }
      System.out.printf(
          "a mutation with its journal and its event: %d round trips, %d of them for the outbox%n",
          all, ofOutbox);
    }
  }
}
