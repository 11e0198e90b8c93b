package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.testutil.FaultProxy;
import io.nats.client.Connection.Status;
import io.nats.client.api.DeliverPolicy;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.time.Duration;
import java.util.Base64;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What a server can do to a connection other than being away. The same connection outlives all of it. */
@Timeout(180)
class ServerTroubleTest {
  private static final Duration AWHILE = Duration.ofSeconds(60);
  private static final char[] STORE_PASSWORD = "changeit".toCharArray();

  @TempDir
  Path temp;

  private static NatsBus.Builder bus(String url) {
    return NatsBus.builder(url).stream("NOTES")
        .subjectPrefix("notes.changes")
        .publishTimeout(Duration.ofMillis(500))
        .configure(options -> options
            .reconnectWait(Duration.ofMillis(50))
            .reconnectJitter(Duration.ofMillis(10))
            .reconnectJitterTls(Duration.ofMillis(10))
            .connectionTimeout(Duration.ofMillis(250)));
  }

  private static Change change(String type) {
    return Change.of(type, "1", "create");
  }

  private static void awaitStored(NatsBus bus) {
    await()
        .atMost(AWHILE)
        .ignoreExceptions()
        .until(() -> bus.publish(change("note")) == Outcome.STORED);
  }

  @Test
  void isOverWhenTheServerTakesConnectionsAgain_whateverItSaidBefore() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        NatsBus bus = bus("nats://" + server.address()).open()) {
      server.stop();
      refuse(server.port(), "maximum connections exceeded", 2);
      refuse(server.port(), "Stale Connection", 2);
      refuse(server.port(), "Authorization Timeout", 2);
      refuse(server.port(), "User Authentication Expired", 3);
      refuse(server.port(), "User Authentication Revoked", 3);
      refuse(server.port(), "Account Authentication Expired", 3);
      assertThat(bus.connection().getStatus()).isNotEqualTo(Status.CLOSED);
      server.start("");

      awaitStored(bus);
    }
  }

  /** Greets as a server does, and answers with an error. */
  private static void refuse(int port, String error, int times) throws IOException {
    int attempts = 0;
    try (ServerSocket listening = new ServerSocket(port, 10, InetAddress.getLoopbackAddress())) {
      listening.setSoTimeout((int) AWHILE.toMillis());
      while (attempts < times) {
        try (Socket client = listening.accept()) {
          client.setSoTimeout((int) AWHILE.toMillis());
          OutputStream out = client.getOutputStream();
          out.write(
              "INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576}\r\n"
                  .getBytes(StandardCharsets.US_ASCII));
          InputStream in = client.getInputStream();
          if (in.read() >= 0) { // the login
            in.skipNBytes(in.available());
            out.write(("-ERR '" + error + "'\r\n").getBytes(StandardCharsets.US_ASCII));
            attempts++;
          }
        } catch (SocketException gaveUp) {
          // it comes again
        }
      }
    }
  }

  @Test
  void isTheEndOfTheStart_whenTheServerHasNoJetStream() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "jetstream: disabled")) {
      assertThatThrownBy(() -> bus("nats://" + server.address())
              .connectTimeout(Duration.ofSeconds(3))
              .open())
          .isInstanceOf(StartupException.class)
          .hasMessageStartingWith("jetstream_connect: ");
    }
  }

  @Test
  void isToldToWhoeverPublishesWhatHeMayNot_andToNobodyElse() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(
            temp,
            "authorization { users: [ {user: bob, password: pw,"
                + " permissions: { publish: { deny: \"notes.changes.secret.>\" } } } ] }");
        NatsBus bus = bus("nats://bob:pw@" + server.address())
            .publishTimeout(Duration.ofSeconds(30)) // the refusal comes before
            .open()) {
      for (int i = 0; i < 3; i++) {
        assertThatThrownBy(() -> bus.publish(change("secret")))
            .isInstanceOf(PublishException.class)
            .hasMessageStartingWith("publish notes.changes.secret.create: the server refuses it: ")
            .hasMessageContaining(
                "Permissions Violation for Publish to \"notes.changes.secret.create\"");
        awaitStored(bus);
      }
      assertThat(bus.connection().getStatus()).isEqualTo(Status.CONNECTED);
      assertThat(bus.connection().getStatistics().getReconnects()).isZero();
    }
  }

  @Test
  void isNoticedAndOverWhenASilentServerSpeaksAgain() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        NatsBus bus = bus("nats://" + server.address())
            .configure(options -> options.pingInterval(Duration.ofMillis(200)))
            .open()) {
      server.signal("STOP");
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      server.signal("CONT");

      awaitStored(bus);
    }
  }

  /** As behind something that lets the login through, and nothing else. */
  @Test
  void isFollowedByNoStormWhenEachConnectionIsLostAtOnce() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        FaultProxy network = FaultProxy.start(server.port());
        Logs logs = new Logs();
        NatsBus bus = bus("nats://127.0.0.1:" + network.port()).open()) {
      int before = network.connections();
      for (int i = 0; i < 100; i++) {
        network.cut();
        Thread.sleep(20); // the beat of the network, not a wait of the test
      }

      assertThat(network.connections() - before).isBetween(2, 40);
      assertThat(logs.count("WARN nats: connection lost")).isEqualTo(1);
      assertThat(logs.count("INFO nats: connected again")).isLessThanOrEqualTo(1);
      awaitStored(bus);
      assertThat(logs.count("INFO nats: connected again")).isEqualTo(1);
    }
  }

  @Test
  void isToldWhenItLasts_alsoSoonAfterAShortOne() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        FaultProxy network = FaultProxy.start(server.port());
        Logs logs = new Logs();
        NatsBus bus = bus("nats://127.0.0.1:" + network.port()).open()) {
      network.cut();
      await().atMost(AWHILE).until(() -> logs.count("INFO nats: connected again") == 1);
      assertThat(bus.connection().getStatus()).isEqualTo(Status.CONNECTED);

      server.stop();

      await().atMost(AWHILE).until(() -> logs.count("WARN nats: connection lost") == 2);
    }
  }

  @Test
  void isOverWhenALameDuckHasASuccessor() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(
            temp, "lame_duck_duration: \"30s\", lame_duck_grace_period: \"100ms\"");
        Logs logs = new Logs();
        NatsBus bus = bus("nats://" + server.address()).open()) {
      awaitStored(bus);
      server.signal("USR2");
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      await().atMost(AWHILE).until(() -> logs.count("nats: server is about to stop") == 1);
      server.stop();
      server.start("");

      awaitStored(bus);
    }
  }

  @Test
  void isOverWhenTheServerShowsACertificateThatIsTrusted() throws Exception {
    SSLContext trusting = certificate("good");
    certificate("bad");
    try (ConfiguredNats server = new ConfiguredNats(temp, tls("good"));
        NatsBus bus = bus("tls://" + server.address())
            .configure(
                options -> options.sslContext(trusting).connectionTimeout(Duration.ofSeconds(5)))
            .open()) {
      awaitStored(bus);
      server.stop();
      server.start(tls("bad"));
      await().atMost(AWHILE).until(() -> server.logged("TLS handshake error") >= 3);
      assertThat(bus.connection().getStatus()).isNotIn(Status.CLOSED, Status.CONNECTED);
      assertThatThrownBy(() -> bus.publish(change("note"))).hasMessageContaining("not connected");
      server.stop();
      server.start(tls("good"));

      awaitStored(bus);
    }
  }

  @Test
  void isNone_whenTheServerIsReachedByWebsocket() throws Exception {
    int port = FreePort.next();
    try (ConfiguredNats server = new ConfiguredNats(
            temp, "websocket { listen: \"127.0.0.1:" + port + "\", no_tls: true }");
        NatsBus bus = bus("ws://127.0.0.1:" + port).open();
        RawNats raw = new RawNats("nats://" + server.address())) {
      raw.publish(
          "notes.changes.note.create",
          "NATS/1.0\r\na: é\r\n\r\n".getBytes(StandardCharsets.UTF_8),
          new byte[70_000]);
      raw.flush();
      CompletableFuture<Event> first = new CompletableFuture<>();
      bus.consumer("notes.changes.>", "indexer").deliver(DeliverPolicy.All).start(first::complete);
      awaitStored(bus);
      assertThat(first.get(AWHILE.toSeconds(), TimeUnit.SECONDS).aggregateId()).contains("1");
    }
  }

  private String tls(String name) {
    return "tls { cert_file: \"" + temp.resolve(name + ".crt") + "\", key_file: \""
        + temp.resolve(name + ".key") + "\" }";
  }

  /** Makes a certificate and its key as files, and returns what trusts it. */
  private SSLContext certificate(String name) throws Exception {
    Path store = temp.resolve(name + ".p12");
    Process keytool = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-genkeypair",
            "-keyalg",
            "EC",
            "-alias",
            "server",
            "-dname",
            "CN=localhost",
            "-ext",
            "san=ip:127.0.0.1",
            "-validity",
            "2",
            "-storetype",
            "PKCS12",
            "-keystore",
            store.toString(),
            "-storepass",
            new String(STORE_PASSWORD))
        .redirectErrorStream(true)
        .start();
    String output = new String(keytool.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(keytool.waitFor()).as(output).isZero();
    KeyStore keys = KeyStore.getInstance(store.toFile(), STORE_PASSWORD);
    pem(name + ".crt", "CERTIFICATE", keys.getCertificate("server").getEncoded());
    pem(name + ".key", "PRIVATE KEY", keys.getKey("server", STORE_PASSWORD).getEncoded());

    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("server", keys.getCertificate("server"));
    TrustManagerFactory trust =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    return context;
  }

  private void pem(String file, String type, byte[] der) throws IOException {
    Files.writeString(
        temp.resolve(file),
        "-----BEGIN " + type + "-----\n" + Base64.getMimeEncoder().encodeToString(der)
            + "\n-----END " + type + "-----\n");
  }
}
