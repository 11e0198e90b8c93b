package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.lettuce.core.RedisCommandTimeoutException;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisReadOnlyException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.SslOptions;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.resource.DefaultEventLoopGroupProvider;
import io.lettuce.core.resource.EventLoopGroupProvider;
import io.lettuce.core.resource.SocketAddressResolver;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RedisTest {
  private final List<Throwable> failures = new CopyOnWriteArrayList<>();

  @AfterEach
  void noThreadIsLeft() throws InterruptedException {
    for (Thread thread : Thread.getAllStackTraces().keySet()) {
      if (thread.getName().startsWith("lettuce-")) {
        thread.join(Duration.ofSeconds(30));
        assertThat(thread.isAlive()).describedAs(thread.getName()).isFalse();
      }
    }
  }

  @Test
  void opensAConnection() {
    try (Redis redis = Redis.open(RedisServer.shared().url())) {
      redis.connection().sync().set("opensAConnection", "é");
      assertThat(redis.connection().sync().get("opensAConnection")).isEqualTo("é");
      assertThat(redis.connection().getTimeout()).isEqualTo(Duration.ofSeconds(3));
      try (StatefulRedisConnection<String, String> other = redis.client().connect()) {
        assertThat(other.sync().ping()).isEqualTo("PONG");
        assertThat(other.getTimeout()).isEqualTo(Duration.ofSeconds(3));
      }
    }
  }

  @Test
  void takesAPingTimeoutBeyondALongOfNanoseconds() {
    Redis.builder(RedisServer.shared().url())
        .pingTimeout(Duration.ofSeconds(Long.MAX_VALUE))
        .retry(Retry.builder().maxAttempts(1).build())
        .open()
        .close();
  }

  @Test
  void closesClientAndConnection_twiceSafely() {
    Redis redis = Redis.open(RedisServer.shared().url());
    redis.close();
    redis.close();
    assertThat(redis.connection().isOpen()).isFalse();
    assertThatThrownBy(() -> redis.client().connect()).isInstanceOf(RuntimeException.class);
  }

  @Test
  void anInterruptedThreadClosesItAllTheSame() {
    Redis redis = Redis.open(RedisServer.shared().url());
    Thread.currentThread().interrupt();
    redis.close();
    assertThat(Thread.interrupted()).isTrue();
    assertThat(redis.connection().isOpen()).isFalse();
  }

  @Test
  void anInterruptedThreadOpensNothing() {
    String url = RedisServer.shared().url();
    for (ThrowingCallable open :
        List.<ThrowingCallable>of(() -> Redis.open(url), () -> RedisCluster.open(url))) {
      Thread.currentThread().interrupt();
      Throwable failure = catchThrowable(open);
      assertThat(Thread.interrupted()).isTrue();
      assertThat(failure).isInstanceOf(StartupException.class).hasMessage("startup interrupted");
    }
  }

  @Test
  void waitsForAServerThatComesUpLater() throws Exception {
    int port = FreePort.next();
    AtomicReference<CompletableFuture<RedisServer>> late = new AtomicReference<>();
    Retry retry = retry(
        600,
        failure ->
            late.compareAndSet(null, CompletableFuture.supplyAsync(() -> RedisServer.start(port))));
    try (Redis redis = Redis.builder("redis://127.0.0.1:" + port).retry(retry).open()) {
      assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
      assertThat(failures.getFirst())
          .hasMessageStartingWith("ping_redis: Unable to connect to 127.0.0.1")
          .hasMessageContaining("refused");
    } finally {
      late.get().get(60, TimeUnit.SECONDS).close();
    }
  }

  @Test
  void triesAgain_whenTheHostHasNoAddressYet() {
    assertThat(gaveUp("redis://no-such-host.invalid"))
        .hasMessageStartingWith("startup failed after 3 attempts: ping_redis: ")
        .hasMessageContaining("no-such-host.invalid");
    assertThat(failures).hasSize(3);
  }

  @Test
  void stopsAtOnce_whenTheServerWillNeverAgree() {
    try (RedisServer server = RedisServer.start()) {
      String at = "127.0.0.1:" + server.port();
      assertThat(gaveUp("redis://" + at + "/99"))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("DB index is out of range");
      try (Redis admin = Redis.open(server.url())) {
        admin.connection().sync().configSet("requirepass", "S3cret");
        admin
            .connection()
            .sync()
            .dispatch(
                CommandType.ACL,
                new StatusOutput<>(StringCodec.UTF8),
                new CommandArgs<>(StringCodec.UTF8)
                    .add("SETUSER")
                    .add("weak")
                    .add("on")
                    .add(">S3cret")
                    .add("+hello")
                    .add("+auth"));
      }
      assertThat(gaveUp("redis://" + at))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("NOAUTH");
      assertThat(gaveUp("redis://:wr0ng@" + at))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("WRONGPASS");
      assertThat(gaveUp("redis://stranger:S3cret@" + at)).hasMessageContaining("WRONGPASS");
      assertThat(gaveUp("redis://weak:S3cret@" + at))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("NOPERM");
      Redis.open("redis://:S3cret@" + at).close();
      Redis.open("redis://default:S3cret@" + at).close();
    }
  }

  @Test
  void theUsersOwnRuleToStopIsKept() throws IOException {
    Retry once =
        retry(3, failure -> {}).stopWhen(failure -> failure.getMessage().contains("refused"));
    assertThatThrownBy(() ->
            Redis.builder("redis://127.0.0.1:" + FreePort.next()).retry(once).open())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: ping_redis: ");
  }

  @Test
  void aWrongUrlIsNotTried() {
    assertThatThrownBy(() -> Redis.builder("redis://u:S3cret@h?skip_verify=true")
            .retry(retry(3, failure -> {}))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("parse_redis_url: ")
        .hasMessageNotContaining("S3cret");
    assertThat(failures).isEmpty();
  }

  @Test
  void aServerThatNeverAnswersIsCutAtThePingTimeout() throws IOException {
    try (SilentServer silent = new SilentServer()) {
      Redis.Builder builder = Redis.builder("redis://127.0.0.1:" + silent.port())
          .pingTimeout(Duration.ofMillis(200))
          .retry(retry(2, failure -> {}));
      assertThatThrownBy(builder::open)
          .hasMessageStartingWith("startup failed after 2 attempts: ping_redis: ");
      silent.awaitHangUps(2);
    }
  }

  @Test
  void anInterruptStopsAtOnce_whileTheServerIsSilent() throws Exception {
    try (SilentServer silent = new SilentServer()) {
      CompletableFuture<Boolean> flag = new CompletableFuture<>();
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      Thread opening = Thread.ofPlatform().start(() -> {
        thrown.set(catchThrowableOfType(
            StartupException.class,
            () -> Redis.builder("redis://127.0.0.1:" + silent.port())
                .pingTimeout(Duration.ofHours(1))
                .open()));
        flag.complete(Thread.currentThread().isInterrupted());
      });
      silent.awaitConnections(1);
      opening.interrupt();
      assertThat(flag.get(30, TimeUnit.SECONDS)).isTrue();
      assertThat(thrown.get()).hasMessageStartingWith("startup interrupted");
      silent.awaitHangUps(1);
    }
  }

  @Test
  void commandsFailWhileTheServerIsDown_andTheConnectionComesBack() throws Exception {
    try (RedisServer server = RedisServer.start();
        Redis redis = Redis.open(server.url())) {
      RedisFuture<?> underWay = redis.connection().async().blpop(0, "nothing");
      server.kill();
      assertThatThrownBy(() -> underWay.get(30, TimeUnit.SECONDS))
          .isInstanceOf(ExecutionException.class)
          .cause() // a reset, if the server had not read the command
          .isInstanceOfAny(RedisException.class, IOException.class);
      assertThatThrownBy(() -> redis.connection().sync().ping()).isInstanceOf(RedisException.class);
      server.restart();
      await(() -> assertThat(redis.connection().sync().ping()).isEqualTo("PONG"));
    }
  }

  @Test
  void aCommandWithoutAnswerTimesOut() {
    try (RedisServer server = RedisServer.start();
        Redis admin = Redis.open(server.url());
        Redis redis = Redis.open(server.url() + "?timeout=150ms")) {
      admin.connection().sync().clientPause(3_600_000);
      assertThatThrownBy(() -> redis.connection().sync().set("key", "value"))
          .isInstanceOf(RedisCommandTimeoutException.class);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"command", "script", "reactive"})
  void leavesAMasterThatHasBecomeAReplica(String how) {
    try (RedisServer old = RedisServer.start();
        RedisServer promoted = RedisServer.start();
        Redis admin = Redis.open(old.url())) {
      AtomicReference<RedisServer> master = new AtomicReference<>(old);
      try (Redis redis = Redis.builder("redis://cache.example")
          .configureResources(resources -> resources.socketAddressResolver(resolvingTo(master)))
          .open()) {
        write(redis, how, "before");
        admin.connection().sync().replicaof("127.0.0.1", promoted.port());
        master.set(promoted);
        assertThatThrownBy(() -> write(redis, how, "lost"))
            .isInstanceOf(RedisReadOnlyException.class);
        await(() -> write(redis, how, "after"));
        assertThat(redis.connection().sync().info("server"))
            .contains("tcp_port:" + promoted.port());
        assertThat(redis.connection().sync().get("key")).isEqualTo("after");
      }
    }
  }

  private static void write(Redis redis, String how, String value) {
    switch (how) {
      case "command" -> redis.connection().sync().set("key", value);
      case "script" ->
        redis
            .connection()
            .sync()
            .eval(
                "return redis.call('SET', KEYS[1], ARGV[1])",
                ScriptOutputType.STATUS,
                new String[] {"key"},
                value);
      default -> redis.connection().reactive().set("key", value).block();
    }
  }

  @Test
  void readsFromAReplicaAndOtherRefusalsKeepTheConnection() {
    try (RedisServer master = RedisServer.start();
        RedisServer replica = RedisServer.start();
        Redis redis = Redis.open(replica.url())) {
      redis.connection().sync().set("key", "value");
      long id = redis.connection().sync().clientId();
      redis.connection().sync().replicaof("127.0.0.1", master.port());
      redis.connection().sync().get("key");
      assertThatThrownBy(
              () -> redis.connection().sync().eval("return foo(", ScriptOutputType.STATUS))
          .isInstanceOf(RedisException.class);
      assertThat(redis.connection().sync().clientId()).isEqualTo(id);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"na:me", ":", "na@me", "n/m", "100%", "é+"})
  void logsInAsTheUserThatTheUrlNames(String user) {
    try (RedisServer server = RedisServer.start();
        Redis admin = Redis.open(server.url())) {
      admin
          .connection()
          .sync()
          .dispatch(
              CommandType.ACL,
              new StatusOutput<>(StringCodec.UTF8),
              new CommandArgs<>(StringCodec.UTF8).addKeys("SETUSER", user, "on", ">p:w", "+@all"));
      String encoded = URLEncoder.encode(user, StandardCharsets.UTF_8).replace("+", "%20");
      try (Redis redis = Redis.open("redis://" + encoded + ":p%3Aw@127.0.0.1:" + server.port())) {
        assertThat(redis.connection().sync().aclWhoami()).isEqualTo(user);
      }
    }
  }

  @Test
  void aDatabaseOfAClusterNodeStopsAtOnce(@TempDir Path directory) throws Exception {
    int port = FreePort.next();
    Process node = new ProcessBuilder(
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            Integer.toString(port),
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            Integer.toString(FreePort.next()),
            "--save",
            "")
        .directory(directory.toFile())
        .redirectErrorStream(true)
        .redirectOutput(directory.resolve("log").toFile())
        .start();
    try {
      Redis.builder("redis://127.0.0.1:" + port)
          .retry(retry(600, failure -> {}))
          .open()
          .close();
      assertThat(gaveUp("redis://127.0.0.1:" + port + "/1"))
          .hasMessageContaining("1 attempts: ping_redis: ");
    } finally {
      node.destroyForcibly().waitFor();
    }
  }

  private static SocketAddressResolver resolvingTo(AtomicReference<RedisServer> server) {
    return new SocketAddressResolver() {
      @Override
      public SocketAddress resolve(RedisURI uri) {
        return new InetSocketAddress(
            InetAddress.getLoopbackAddress(), server.get().port());
      }
    };
  }

  @Test
  void masterIsFoundThroughSentinels(@TempDir Path directory) throws Exception {
    int port = FreePort.next();
    try (RedisServer server = RedisServer.start()) {
      Path settings = Files.writeString(
          directory.resolve("sentinel.conf"),
          "bind 127.0.0.1\nport " + port + "\nsentinel monitor main 127.0.0.1 " + server.port()
              + " 1\n");
      Process sentinel = new ProcessBuilder("redis-server", settings.toString(), "--sentinel")
          .redirectErrorStream(true)
          .redirectOutput(directory.resolve("log").toFile())
          .start();
      try (Redis redis = Redis.builder("redis-sentinel://127.0.0.1:" + port + "/1#main")
          .retry(retry(600, failure -> {}))
          .open()) {
        redis.connection().sync().set("where", "here");
        assertThat(redis.connection().sync().info("server")).contains("tcp_port:" + server.port());
      } finally {
        sentinel.destroyForcibly().waitFor();
      }
    }
  }

  /** Such as one whose machine has lost power, perhaps with the master. */
  @Test
  void asksTheOtherSentinels_whenTheFirstIsSilent() throws IOException {
    try (SilentServer silent = new SilentServer();
        RedisServers servers = RedisServers.startSentinels()) {
      String first = "redis-sentinel://127.0.0.1:" + silent.port() + ",";
      try (Redis redis = Redis.builder(servers.url().replace("redis-sentinel://", first))
          .pingTimeout(Duration.ofSeconds(2))
          .retry(retry(10, failure -> {}))
          .open()) {
        assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
      }
    }
  }

  @Test
  void tlsFromPemFilesIsConfigured_andTlsThatDoesNotDoStopsAtOnce(@TempDir Path directory)
      throws Exception {
    Path certificate = certificate(directory.resolve("server"));
    Path stranger = certificate(directory.resolve("stranger"));
    try (RedisServer server = RedisServer.start();
        Redis admin = Redis.open(server.url())) {
      int port = FreePort.next();
      admin
          .connection()
          .sync()
          .configSet(Map.of(
              "tls-cert-file", certificate.toString(),
              "tls-key-file", certificate.resolveSibling("key.pem").toString(),
              "tls-ca-cert-file", certificate.toString(),
              "tls-port", Integer.toString(port)));
      String tls = "rediss://127.0.0.1:" + port;

      try (Redis redis = Redis.builder(tls)
          .configure(options -> options.sslOptions(SslOptions.builder()
              .jdkSslProvider()
              .trustManager(certificate.toFile())
              .keyManager(
                  certificate.toFile(), certificate.resolveSibling("key.pem").toFile(), null)
              .build()))
          .open()) {
        assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
      }
      assertThat(gaveUp(tls, trusting(stranger)))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("path");
      assertThat(gaveUp(tls, trusting(certificate)))
          .hasMessageContaining("1 attempts: ping_redis: ")
          .hasMessageContaining("certificate_required");
    }
  }

  @Test
  void triesAgain_whenTheConnectionBreaksInTheTlsHandshake() throws Exception {
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      Thread closing = Thread.ofVirtual().start(() -> {
        for (int i = 0; i < 3; i++) {
          try (Socket socket = server.accept()) {
            socket.getInputStream().read();
          } catch (IOException ended) {
            return;
          }
        }
      });
      assertThat(gaveUp("rediss://127.0.0.1:" + server.getLocalPort()))
          .hasMessageContaining("3 attempts: ping_redis: ");
      closing.join();
    }
  }

  private static Consumer<Redis.Builder> trusting(Path certificate) {
    return builder -> builder.configure(options -> options.sslOptions(
        SslOptions.builder().jdkSslProvider().trustManager(certificate.toFile()).build()));
  }

  @Test
  void configureResourcesReachesTheClient() {
    try (Redis redis = Redis.builder(RedisServer.shared().url())
        .configureResources(resources -> resources.ioThreadPoolSize(37))
        .open()) {
      assertThat(redis.client().getResources().ioThreadPoolSize()).isEqualTo(37);
    }
  }

  @Test
  void eventLoopsOfTheServiceAreUsed_andNotEnded() throws Exception {
    EventLoopGroupProvider shared = new DefaultEventLoopGroupProvider(2);
    try {
      for (int i = 0; i < 2; i++) {
        try (Redis redis = Redis.builder(RedisServer.shared().url())
            .configureResources(resources -> resources.eventLoopGroupProvider(shared))
            .open()) {
          assertThat(redis.client().getResources().eventLoopGroupProvider()).isSameAs(shared);
          assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
        }
      }
    } finally {
      shared.shutdown(0, 2, TimeUnit.SECONDS).get();
    }
  }

  @Test
  void namesEveryWrongSetting() {
    assertThatThrownBy(() ->
            Redis.builder("redis://u:S3cret@h?db=x").pingTimeout(Duration.ZERO).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "parse_redis_url: database must be a number; pingTimeout must be more than zero: PT0S");
    assertThatThrownBy(
            () -> Redis.builder("redis://h").pingTimeout(Duration.ofNanos(-1)).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("pingTimeout must be more than zero: PT-0.000000001S");
  }

  private StartupException gaveUp(String url) {
    return gaveUp(url, builder -> {});
  }

  private StartupException gaveUp(String url, Consumer<Redis.Builder> change) {
    failures.clear();
    Redis.Builder builder = Redis.builder(url).retry(retry(3, failure -> {}));
    change.accept(builder);
    return catchThrowableOfType(StartupException.class, () -> builder.open().close());
  }

  private Retry retry(int attempts, Consumer<Throwable> onFailure) {
    return Retry.builder()
        .maxAttempts(attempts)
        .delay(Duration.ofMillis(100))
        .onFailedAttempt(attempt -> {
          failures.add(attempt.failure());
          onFailure.accept(attempt.failure());
        })
        .build();
  }

  private static void await(Runnable success) {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (true) {
      try {
        success.run();
        return;
      } catch (RedisException failure) {
        if (System.nanoTime() > end) {
          throw failure;
        }
        Thread.onSpinWait();
      }
    }
  }

  /** A self-signed certificate in PEM form, with its key beside it as {@code key.pem}. */
  private static Path certificate(Path directory) throws Exception {
    Files.createDirectories(directory);
    Path store = directory.resolve("store.p12");
    Process keytool = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-genkeypair",
            "-alias",
            "a",
            "-keyalg",
            "EC",
            "-groupname",
            "secp256r1",
            "-dname",
            "CN=test",
            "-ext",
            "san=ip:127.0.0.1",
            "-validity",
            "30",
            "-storetype",
            "PKCS12",
            "-keystore",
            store.toString(),
            "-storepass",
            "changeit")
        .inheritIO()
        .start();
    assertThat(keytool.waitFor()).isZero();
    KeyStore keys = KeyStore.getInstance(store.toFile(), "changeit".toCharArray());
    Files.writeString(
        directory.resolve("key.pem"),
        pem("PRIVATE KEY", keys.getKey("a", "changeit".toCharArray()).getEncoded()));
    return Files.writeString(
        directory.resolve("certificate.pem"),
        pem("CERTIFICATE", keys.getCertificate("a").getEncoded()));
  }

  private static String pem(String type, byte[] der) {
    return "-----BEGIN " + type + "-----\n"
        + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der) + "\n-----END " + type
        + "-----\n";
  }

  /** Takes connections and what is sent on them, and never says a word. */
  private static final class SilentServer implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final List<Socket> sockets = new ArrayList<>();

    SilentServer() throws IOException {
      listener.setSoTimeout(30_000);
    }

    int port() {
      return listener.getLocalPort();
    }

    void awaitConnections(int count) throws IOException {
      while (sockets.size() < count) {
        Socket socket = listener.accept();
        socket.setSoTimeout(30_000);
        sockets.add(socket);
        assertThat(socket.getInputStream().read()).isNotNegative();
      }
    }

    void awaitHangUps(int count) throws IOException {
      awaitConnections(count);
      for (Socket socket : sockets) {
        socket.getInputStream().transferTo(OutputStream.nullOutputStream());
      }
    }

    @Override
    public void close() throws IOException {
      for (Socket socket : sockets) {
        socket.close();
      }
      listener.close();
    }
  }
}
