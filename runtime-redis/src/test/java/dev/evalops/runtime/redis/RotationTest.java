package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.evalops.fixtures.FreePort;
import dev.evalops.fixtures.Load;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.testutil.RedisServers;
import io.lettuce.core.KeyValue;
import io.lettuce.core.KillArgs;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.cluster.SlotHash;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.event.command.CommandStartedEvent;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Predicate;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

@Timeout(120)
class RotationTest {
  private static final Duration BOUND = Duration.ofSeconds(60);
  private static final Logger LOGGER = (Logger) LoggerFactory.getLogger("dev.evalops.runtime");
  private static final Pattern CLIENT = Pattern.compile("(?m)^id=(\\d+) .*user=app");

  private final ListAppender<ILoggingEvent> logged = new ListAppender<>();
  private final AtomicReference<Credentials> given = new AtomicReference<>();

  @TempDir
  Path folder;

  private int port;
  private Process server;
  private RedisClient client;
  private RedisCommands<String, String> admin;

  @BeforeEach
  void listen() {
    logged.list = new CopyOnWriteArrayList<>();
    logged.start();
    LOGGER.addAppender(logged);
    LOGGER.setLevel(Level.INFO);
    LOGGER.setAdditive(false);
  }

  @AfterEach
  void stop() throws Exception {
    LOGGER.detachAppender(logged);
    LOGGER.setLevel(null);
    LOGGER.setAdditive(true);
    if (client != null) {
      client.shutdownAsync(0, 1, TimeUnit.SECONDS).get();
    }
    if (server != null) {
      server.destroyForcibly().waitFor();
    }
    assertThat(logged.list)
        .noneMatch(event -> (event.getFormattedMessage()
                + event.getKeyValuePairs()
                + event.getThrowableProxy())
            .contains("S3cret"));
  }

  private void start(String... more) throws Exception {
    port = FreePort.next();
    List<String> line = new ArrayList<>(List.of(
        "redis-server", "--bind", "127.0.0.1", "--port", Integer.toString(port), "--save", ""));
    line.addAll(List.of(more));
    server = new ProcessBuilder(line)
        .directory(folder.toFile())
        .redirectErrorStream(true)
        .redirectOutput(folder.resolve("log").toFile())
        .start();
    client = RedisClient.create(RedisURI.create("127.0.0.1", port));
    admin = await()
        .atMost(BOUND)
        .ignoreExceptionsInstanceOf(RuntimeException.class)
        .until(() -> client.connect().sync(), connected -> true);
    rotate("S3cret-0");
  }

  @Test
  void failsNoCommand_andLeavesNoOldConnection_whenThePasswordIsReplacedUnderLoad()
      throws Exception {
    rotations(2, Duration.ofSeconds(2));
  }

  @Test
  @Tag("soak")
  @Timeout(1800)
  void failsNoCommand_andLeavesNoOldConnectionAfterAMinute_inTenRotations() throws Exception {
    rotations(10, Duration.ofMinutes(1));
  }

  private void rotations(int count, Duration within) throws Exception {
    start();
    Path file = Files.writeString(folder.resolve("password"), "S3cret-0\n");
    try (Redis redis = Redis.builder(url())
        .credentials(Credentials.fromFile("app", file))
        .rotationTimeout(within)
        .open()) {
      StatefulRedisConnection<String, String> own = redis.client().connect();
      StatefulRedisConnection<String, String> blocking = redis.client().connect();
      StatefulRedisPubSubConnection<String, String> subscribed = redis.client().connectPubSub();
      subscribed.sync().subscribe("channel");
      rotate("redis", count, within, file, i -> {
        RedisCommands<String, String> shared = redis.connection().sync();
        if (i == 0) {
          own.sync().multi();
          own.sync().set("in", "transaction");
          return own.sync().exec().size() == 1;
        }
        if (i == 1) {
          KeyValue<String, String> nothing = blocking.sync().blpop(1, "empty");
          return nothing == null;
        }
        return shared.set("key-" + i, "value").equals("OK") && shared.get("key-" + i) != null;
      });
      await().atMost(BOUND).until(() -> admin.publish("channel", "still subscribed") == 1);
    }
  }

  @Test
  void failsNoCommand_andLeavesNoOldConnection_inACluster() throws Exception {
    clusterRotations(2, Duration.ofSeconds(2));
  }

  @Test
  @Tag("soak")
  @Timeout(1800)
  void failsNoCommand_andLeavesNoOldConnectionAfterAMinute_inTenRotationsOfACluster()
      throws Exception {
    clusterRotations(10, Duration.ofMinutes(1));
  }

  private void clusterRotations(int count, Duration within) throws Exception {
    start("--cluster-enabled", "yes", "--cluster-port", Integer.toString(FreePort.next()));
    admin.clusterAddSlots(IntStream.range(0, SlotHash.SLOT_COUNT).toArray());
    await().atMost(BOUND).until(() -> admin.clusterInfo().contains("cluster_state:ok"));
    Path file = Files.writeString(folder.resolve("password"), "S3cret-0\n");
    try (RedisCluster redis = RedisCluster.builder(url())
        .credentials(Credentials.fromFile("app", file))
        .rotationTimeout(within)
        .open()) {
      StatefulRedisClusterConnection<String, String> connection = redis.connection();
      rotate(
          "redis cluster",
          count,
          within,
          file,
          i -> i == 0
              ? connection.sync().ping().equals("PONG")
              : connection.sync().set("key-" + i, "value").equals("OK"));
    }
  }

  private void rotate(
      String what, int count, Duration within, Path file, Predicate<Integer> command)
      throws Exception {
    try (Load load = Load.start(thread -> assertThat(command.test(thread)).isTrue())) {
      load.rotate(what, count, within, i -> {
        long last = clients().stream().mapToLong(Long::longValue).max().orElseThrow();
        if (i % 2 == 0) { // some secret stores tell the server first, some the client
          rotate("S3cret-" + i);
        }
        Path next = Files.writeString(folder.resolve("next"), "S3cret-" + i + "\n");
        Files.move(next, file, StandardCopyOption.REPLACE_EXISTING);
        rotate("S3cret-" + i);
        return () -> clients().stream().noneMatch(id -> id <= last);
      });
      assertThat(load.failures()).isEmpty();
      assertThat(load.requests()).isPositive();
    }
  }

  @Test
  void readsTheSecretOnceMore_whenTheFirstLoginIsRefused() throws Exception {
    start();
    List<String> reads =
        new CopyOnWriteArrayList<>(List.of("S3cret-old", "S3cret-old", "S3cret-0"));
    try (Redis redis = Redis.builder(url())
        .credentials(
            () -> new Credentials("app", reads.size() > 1 ? reads.removeFirst() : reads.getFirst()))
        .open()) {
      assertThat(redis.connection().sync().aclWhoami()).isEqualTo("app");
    }
  }

  @Test
  void stopsAtOnce_whenTheFirstLoginIsRefused() throws Exception {
    start();
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> Redis.builder(url())
            .credentials(() -> new Credentials("app", "S3cret-wrong"))
            .open())
        .withMessageContaining("after 1 attempts: ping_redis: ")
        .withMessageContaining("WRONGPASS")
        .withMessageNotContaining("S3cret");
  }

  @Test
  void logsInAsTheDefaultUser_whenThereIsNone() throws Exception {
    start();
    admin.configSet("requirepass", "S3cret-default");
    try (Redis redis = Redis.builder(url())
        .credentials(() -> new Credentials("", "S3cret-default"))
        .open()) {
      assertThat(redis.connection().sync().aclWhoami()).isEqualTo("default");
    }
  }

  @Test
  void keepsTheConnection_whileTheNewSecretIsRefusedOrThereIsNone() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    try (Redis redis = Redis.builder(url())
        .credentials(given::get)
        .rotationTimeout(Duration.ofMillis(300))
        .open()) {
      List<Long> before = clients();
      for (Credentials wrong : new Credentials[] {new Credentials("app", "S3cret-early"), null}) {
        logged.list.clear();
        given.set(wrong);
        await()
            .atMost(BOUND)
            .until(() -> logged.list.stream()
                .anyMatch(event -> event.getMessage().contains("open connections stay")));
        assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
      }
      assertThat(clients()).containsAll(before);
      given.set(new Credentials("app", "S3cret-early"));
      rotate("S3cret-early");
      await().atMost(BOUND).until(() -> clients().stream().noneMatch(before::contains));
      assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
    }
  }

  @Test
  void keepsEachConnection_whileNothingIsReplaced() throws Exception {
    start();
    AtomicLong reads = new AtomicLong();
    try (Redis redis = Redis.builder(url())
        .credentials(() -> {
          reads.incrementAndGet();
          return new Credentials("app", "S3cret-0");
        })
        .rotationTimeout(Duration.ofMillis(300))
        .open()) {
      assertThat(redis.client().connect().sync().ping()).isEqualTo("PONG");
      List<Long> before = clients();
      long atFirst = reads.get();
      await().atMost(BOUND).until(() -> reads.get() > atFirst + 3);
      assertThat(clients()).hasSize(2).isEqualTo(before);
      assertThat(logged.list).isEmpty();
    }
  }

  @Test
  void replacesAConnectionOnceForEachVersion_whileAnotherIsInATransaction() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    AtomicLong reads = new AtomicLong();
    try (Redis redis = Redis.builder(url())
        .credentials(() -> {
          reads.incrementAndGet();
          return given.get();
        })
        .rotationTimeout(Duration.ofMillis(300))
        .open()) {
      StatefulRedisConnection<String, String> own = redis.client().connect();
      for (int version = 1; version <= 2; version++) {
        own.sync().multi();
        List<Long> before = clients();
        long accepted = accepted();
        rotate("S3cret-" + version);
        given.set(new Credentials("app", "S3cret-" + version));
        await()
            .atMost(BOUND)
            .until(() -> clients().stream().filter(before::contains).count() == 1);
        awaitLooks(reads);
        assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
        assertThat(accepted() - accepted).as("a login to try, a connection").isEqualTo(2);

        own.sync().exec();
        await().atMost(BOUND).until(() -> clients().stream().noneMatch(before::contains));
        awaitLooks(reads);
        assertThat(own.sync().ping()).isEqualTo("PONG");
        assertThat(accepted() - accepted).as("and the other connection").isEqualTo(3);
        assertThat(clients()).hasSize(2);
        assertThat(logged.list)
            .as("%s", logged.list)
            .hasSize(version)
            .allMatch(event -> event.getMessage().contains("replacing connections"));
      }
    }
  }

  private static void awaitLooks(AtomicLong reads) {
    long before = reads.get();
    await().atMost(BOUND).until(() -> reads.get() > before + 10);
  }

  /** How many connections the server has accepted so far. */
  private long accepted() {
    return Long.parseLong(
        admin.info("stats").replaceAll("(?s).*total_connections_received:(\\d+).*", "$1"));
  }

  @Test
  void replacesTheConnectionsToTheOtherNodes_whenANodeOfTheClusterIsDead() throws Exception {
    given.set(new Credentials("app", "S3cret-0"));
    client = RedisClient.create();
    try (RedisServers servers = RedisServers.startCluster()) {
      List<RedisCommands<String, String>> admins = servers.servers().stream()
          .map(node -> client.connect(RedisURI.create(node.url())).sync())
          .toList();
      admins.forEach(each -> rotate(each, "S3cret-0"));
      String dead = admins.getFirst().clusterMyId();
      List<RedisCommands<String, String>> others = admins.subList(1, admins.size());
      try (RedisCluster redis = RedisCluster.builder(servers.url())
          .credentials(given::get)
          .rotationTimeout(Duration.ofMillis(300))
          .open()) {
        servers.servers().getFirst().kill();
        await().atMost(BOUND).until(() -> servers.masters().size() == 3);
        awaitWrites(redis);
        List<List<Long>> before = others.stream().map(RotationTest::clients).toList();
        assertThat(before).anyMatch(ids -> !ids.isEmpty());
        assertThat(redis.client().getPartitions().getPartitionByNodeId(dead)).isNotNull();

        others.forEach(each -> rotate(each, "S3cret-1"));
        given.set(new Credentials("app", "S3cret-1"));
        for (int i = 0; i < others.size(); i++) {
          RedisCommands<String, String> node = others.get(i);
          List<Long> old = before.get(i);
          await().atMost(BOUND).until(() -> clients(node).stream().noneMatch(old::contains));
        }
        awaitWrites(redis);
      }
    }
  }

  /** Writes to each master, until it takes it. */
  private static void awaitWrites(RedisCluster redis) {
    await().atMost(BOUND).ignoreExceptionsInstanceOf(RedisException.class).until(() -> {
      for (int i = 0; i < 20; i++) {
        redis.connection().sync().set("key-" + i, "value");
      }
      return true;
    });
  }

  @Test
  void leavesATransactionAlone_untilItHasEnded() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    try (Redis redis = Redis.builder(url())
        .credentials(given::get)
        .rotationTimeout(Duration.ofMillis(300))
        .open()) {
      StatefulRedisConnection<String, String> own = redis.client().connect();
      List<Long> before = clients();
      own.sync().multi();
      CompletableFuture<String> queued = own.async().set("key", "value").toCompletableFuture();
      rotate("S3cret-1");
      given.set(new Credentials("app", "S3cret-1"));
      await()
          .atMost(BOUND)
          .until(() -> clients().stream().filter(before::contains).count() == 1);
      own.sync().exec();
      assertThat(queued.get(30, TimeUnit.SECONDS)).isEqualTo("OK");
      await().atMost(BOUND).until(() -> clients().stream().noneMatch(before::contains));
      assertThat(own.sync().get("key")).isEqualTo("value");
    }
  }

  @Test
  void writesOn_whenATransactionThatWasWaitedForIsCutOff() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    AtomicLong reads = new AtomicLong();
    AtomicReference<Runnable> within = new AtomicReference<>();
    try (Redis redis = Redis.builder(url())
        .credentials(() -> {
          reads.incrementAndGet();
          return given.get();
        })
        .rotationTimeout(Duration.ofMillis(300))
        .commandListener(new CommandListener() {
          @Override
          public void commandStarted(CommandStartedEvent event) {
            Runnable nested = within.getAndSet(null);
            if (nested != null) {
              nested.run();
            }
          }
        })
        .open()) {
      StatefulRedisConnection<String, String> own = redis.client().connect();
      long id = own.sync().clientId();
      List<Long> before = clients();
      own.sync().watch("key");
      rotate("S3cret-1");
      given.set(new Credentials("app", "S3cret-1"));
      await()
          .atMost(BOUND)
          .until(() -> clients().stream().filter(before::contains).toList(), List.of(id)::equals);
      long atFirst = reads.get();
      await().atMost(BOUND).until(() -> reads.get() > atFirst + 3); // it was asked to, and waits
      admin.clientKill(KillArgs.Builder.id(id));
      await()
          .atMost(BOUND)
          .until(() -> clients().size() == 2 && own.isOpen() && !clients().contains(id));
      CompletableFuture<String> both = CompletableFuture.supplyAsync(() -> {
        AtomicReference<CompletableFuture<String>> inner = new AtomicReference<>();
        within.set(() -> inner.set(own.async().set("inner", "value").toCompletableFuture()));
        return own.sync().set("outer", "value") + inner.get().join();
      });
      assertThat(both.get(30, TimeUnit.SECONDS)).isEqualTo("OKOK");
    }
  }

  @Test
  void completesWhatIsHeldBack_whenClosed() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    CompletableFuture<String> held;
    try (Redis redis = Redis.builder(url())
        .credentials(given::get)
        .rotationTimeout(Duration.ofSeconds(12))
        .open()) {
      held = setBehindQuit(redis.connection());
    }
    assertThatExceptionOfType(ExecutionException.class)
        .isThrownBy(() -> held.get(30, TimeUnit.SECONDS))
        .withMessageContaining("Connection is closed");
  }

  @Test
  void cutsTheConnection_whenCommandsWaitAndQuitIsNotAnswered() throws Exception {
    start();
    given.set(new Credentials("app", "S3cret-0"));
    try (Redis redis = Redis.builder(url())
        .credentials(given::get)
        .rotationTimeout(Duration.ofSeconds(1))
        .open()) {
      List<Long> before = clients();
      CompletableFuture<String> held = setBehindQuit(redis.connection());
      await().atMost(BOUND).until(held::isDone);
      await().atMost(BOUND).until(() -> clients().stream().noneMatch(before::contains));
      await()
          .atMost(BOUND)
          .ignoreExceptionsInstanceOf(RuntimeException.class)
          .until(() -> redis.client().connect().sync().ping().equals("PONG"));
    }
  }

  /** Replaces the password while the connection is in a blocking command. */
  private CompletableFuture<String> setBehindQuit(StatefulRedisConnection<String, String> own) {
    var unused = own.async().blpop(0, "empty");
    rotate("S3cret-1");
    given.set(new Credentials("app", "S3cret-1"));
    Pattern quitIsUnread = Pattern.compile("(?m)^.* qbuf=[1-9].* user=app");
    await().atMost(BOUND).until(() -> quitIsUnread.matcher(admin.clientList()).find());
    return own.async().set("key", "value").toCompletableFuture();
  }

  @Test
  void refusesWhatContradictsItself() throws Exception {
    SSLContext context = SSLContext.getDefault();
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> Redis.builder("redis://:S3cret@h").credentials(given::get).open())
        .withMessage(
            "parse_redis_url: credentials are given: the URL must not have user or password");
    for (String url : new String[] {"redis://h", "rediss://h?verifyPeer=NONE"}) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> Redis.builder(url).tls(context).open())
          .withMessageStartingWith("parse_redis_url: tls is given: the URL must begin with rediss");
    }
    assertThatIllegalArgumentException()
        .isThrownBy(() ->
            RedisCluster.builder("redis://h").rotationTimeout(Duration.ZERO).open())
        .withMessage("rotationTimeout must be more than zero: PT0S");
  }

  private String url() {
    return "redis://127.0.0.1:" + port;
  }

  private void rotate(String password) {
    rotate(admin, password);
  }

  private static void rotate(RedisCommands<String, String> admin, String password) {
    admin.dispatch(
        CommandType.ACL,
        new StatusOutput<>(StringCodec.UTF8),
        new CommandArgs<>(StringCodec.UTF8)
            .add("SETUSER")
            .add("app")
            .add("reset")
            .add("on")
            .add(">" + password)
            .add("~*")
            .add("&*")
            .add("+@all"));
  }

  /** Those of the user under test, by their number, which grows. */
  private List<Long> clients() {
    return clients(admin);
  }

  private static List<Long> clients(RedisCommands<String, String> admin) {
    return CLIENT
        .matcher(admin.clientList())
        .results()
        .map((MatchResult each) -> Long.valueOf(each.group(1)))
        .toList();
  }
}
