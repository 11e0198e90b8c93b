package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.Files.createDirectory;
import static java.nio.file.Files.createSymbolicLink;
import static java.nio.file.Files.delete;
import static java.nio.file.Files.getLastModifiedTime;
import static java.nio.file.Files.move;
import static java.nio.file.Files.setLastModifiedTime;
import static java.nio.file.Files.writeString;
import static java.nio.file.StandardCopyOption.ATOMIC_MOVE;
import static java.nio.file.StandardCopyOption.REPLACE_EXISTING;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.mtls.TestCa.Issued;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.security.KeyPair;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MtlsReloadTest {
  private final TestCa authority = TestCa.create();
  private final List<CertificateReload> reloads = new ArrayList<>();

  @TempDir
  Path dir;

  /** The three files of one side. */
  private record Store(Path ca, Path cert, Path key) {
    static Store in(Path dir) {
      return new Store(dir.resolve("ca.crt"), dir.resolve("tls.crt"), dir.resolve("tls.key"));
    }

    Store write(TestCa authority, Issued issued) throws IOException {
      writeString(ca, authority.pem());
      writeString(cert, issued.chainPem());
      writeString(key, issued.keyPem());
      return this;
    }
  }

  private Store store(String name, Issued issued) throws IOException {
    return Store.in(createDirectory(dir.resolve(name))).write(authority, issued);
  }

  private ServerTls.Builder server(Store store) {
    return ServerTls.builder()
        .certificate(store.cert, store.key)
        .requireClients(store.ca)
        .reloadEvery(Duration.ZERO)
        .onReload(reloads::add);
  }

  private static ClientTls.Builder client(Store store) {
    return ClientTls.builder()
        .ca(store.ca)
        .certificate(store.cert, store.key)
        .reloadEvery(Duration.ZERO);
  }

  private static String get(HttpClient client, URI uri) throws IOException, InterruptedException {
    HttpRequest request =
        HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(20)).build();
    return client.send(request, BodyHandlers.ofString()).body();
  }

  /** The certificate that a new connection gets to see. */
  private static X509Certificate presented(ClientTls client, TestServer server) throws IOException {
    try (SSLSocket socket = connect(client, server)) {
      return (X509Certificate) socket.getSession().getPeerCertificates()[0];
    }
  }

  private static SSLSocket connect(ClientTls client, TestServer server) throws IOException {
    SSLSocket socket =
        (SSLSocket) client.sslContext().getSocketFactory().createSocket("localhost", server.port());
    socket.setSoTimeout(20_000);
    socket.startHandshake();
    return socket;
  }

  /** Reads an answer, and with it the session tickets. */
  private static String exchange(SSLSocket socket) throws IOException {
    socket.getOutputStream().write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".getBytes(UTF_8));
    return new String(socket.getInputStream().readAllBytes(), UTF_8);
  }

  @Test
  void usesARotatedPairInNewHandshakes_withTheSameContext() throws Exception {
    Issued next = authority.issue("server two");
    Store files = store("server", authority.issue("server one"));
    try (ServerTls server = server(files).open();
        ClientTls client = client(store("client", authority.issue("client"))).open();
        TestServer http = new TestServer(server.sslContext())) {
      SSLContext context = server.sslContext();
      assertThat(presented(client, http).getSubjectX500Principal().getName())
          .isEqualTo("CN=server one");

      files.write(authority, next);
      assertThat(server.reload()).isTrue();

      assertThat(presented(client, http)).isEqualTo(next.leaf());
      assertThat(server.sslContext()).isSameAs(context);
      assertThat(server.notAfter()).contains(next.leaf().getNotAfter().toInstant());
      assertThat(reloads)
          .containsExactly(new CertificateReload(server.notAfter(), Optional.empty()));
    }
  }

  @Test
  void presentsARotatedClientCertificate_fromAnHttpClientThatLivesOn() throws Exception {
    Store files = store("client", authority.issue("client one"));
    try (ServerTls server = server(store("server", authority.issue("server"))).open();
        ClientTls client = client(files).open();
        TestServer http = new TestServer(server.sslContext())) {
      HttpClient http1 = client.httpClient();
      assertThat(get(http1, http.uri())).startsWith("CN=client one");
      files.write(authority, authority.issue("client two"));
      assertThat(client.reload()).isTrue();
      assertThat(get(http1, http.uri())).startsWith("CN=client two");
    }
  }

  @Test
  void seesARenewalThatKeepsTheKey_inFilesOfTheSameSizeAndTime() throws Exception {
    KeyPair keys = Keys.rsa();
    Instant end = Instant.now().plus(Duration.ofDays(9));
    Issued first = authority.request("CN=svc", keys).dns("localhost").issue();
    Issued renewed = authority
        .request("CN=svc", keys)
        .dns("localhost")
        .valid(Instant.now(), end)
        .issue();
    Store files = store("server", first);
    FileTime modified = getLastModifiedTime(files.cert);
    try (ServerTls server = server(files).open()) {
      writeString(files.cert, renewed.chainPem());
      setLastModifiedTime(files.cert, modified);
      assertThat(server.reload()).isTrue();
      assertThat(server.notAfter()).contains(renewed.leaf().getNotAfter().toInstant());
    }
  }

  @Test
  void doesNothing_whenTheFilesSayTheSame() throws Exception {
    Issued issued = authority.issue("svc");
    Store files = store("server", issued);
    try (ServerTls server = server(files).open()) {
      files.write(authority, issued);
      assertThat(server.reload()).isFalse();
      assertThat(reloads).isEmpty();
    }
  }

  /** Two versions of the files behind the symbolic links of a Kubernetes volume, of which the first is in use. */
  private Store volume(Issued one, Issued two) throws IOException {
    Store.in(createDirectory(dir.resolve("..1"))).write(authority, one);
    Store.in(createDirectory(dir.resolve("..2"))).write(authority, two);
    createSymbolicLink(dir.resolve("..data"), Path.of("..1"));
    for (String name : List.of("ca.crt", "tls.crt", "tls.key")) {
      createSymbolicLink(dir.resolve(name), Path.of("..data", name));
    }
    return Store.in(dir);
  }

  private void swapTo(String version) throws IOException {
    createSymbolicLink(dir.resolve("..data_tmp"), Path.of(version));
    move(dir.resolve("..data_tmp"), dir.resolve("..data"), ATOMIC_MOVE, REPLACE_EXISTING);
  }

  @Test
  void seesTheSwapOfAKubernetesVolume() throws Exception {
    Issued next = authority.issue("two");
    try (ServerTls server = server(volume(authority.issue("one"), next)).open()) {
      swapTo("..2");
      assertThat(server.reload()).isTrue();
      assertThat(server.notAfter()).contains(next.leaf().getNotAfter().toInstant());
      assertThat(reloads).hasSize(1);
    }
  }

  @Test
  void reportsNoProblem_whenASwapFallsBetweenTheReadingOfTwoFiles() throws Exception {
    AtomicBoolean done = new AtomicBoolean();
    Semaphore looks = new Semaphore(0);
    ExecutorService pool = Executors.newSingleThreadExecutor();
    try (ServerTls server =
        server(volume(authority.issue("one"), authority.issue("two"))).open()) {
      Future<?> looking = pool.submit(() -> {
        while (!done.get()) {
          server.reload();
          looks.release();
        }
      });
      for (int i = 0; i < 500; i++) {
        swapTo(i % 2 == 0 ? "..2" : "..1"); // at most once in the time of a look
        looks.drainPermits(); // of those that ended before
        assertThat(looks.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      }
      done.set(true);
      looking.get(20, TimeUnit.SECONDS);
      assertThat(reloads)
          .isNotEmpty()
          .allSatisfy(reload -> assertThat(reload.problem()).isEmpty());
    } finally {
      done.set(true);
      pool.shutdown();
    }
  }

  @Test
  void keepsTheLastGoodPair_andReportsABrokenOneOnce() throws Exception {
    Issued good = authority.issue("good");
    Issued next = authority.issue("next");
    Store files = store("server", good);
    try (ServerTls server = server(files).open();
        ClientTls client = client(store("client", authority.issue("client"))).open();
        TestServer http = new TestServer(server.sslContext())) {
      writeString(files.cert, next.chainPem()); // its key comes later
      assertThat(server.reload()).isFalse();
      assertThat(server.reload()).isFalse();
      assertThat(presented(client, http)).isEqualTo(good.leaf());
      assertThat(reloads).hasSize(1);
      assertThat(reloads.get(0).problem())
          .contains("load_server_keypair: " + files.key
              + ": the private key does not belong to the certificate");
      assertThat(reloads.get(0).notAfter()).contains(good.leaf().getNotAfter().toInstant());

      writeString(files.key, next.keyPem());
      assertThat(server.reload()).isTrue();
      assertThat(presented(client, http)).isEqualTo(next.leaf());
      assertThat(reloads).hasSize(2);
      assertThat(reloads.get(1).problem()).isEmpty();
    }
  }

  @Test
  void keepsACertificateThatIsValid_whileTheNextIsNot() throws Exception {
    Instant now = Instant.now();
    Issued good = authority.issue("good");
    Issued expired = authority
        .request("CN=expired", Keys.ec())
        .dns("localhost")
        .valid(now.minus(Duration.ofDays(2)), now.minus(Duration.ofDays(1)))
        .issue();
    Issued tomorrow = authority
        .request("CN=tomorrow", Keys.ec())
        .dns("localhost")
        .valid(now.plus(Duration.ofDays(1)), now.plus(Duration.ofDays(2)))
        .issue();
    Store files = store("server", good);
    try (ServerTls server = server(files).open();
        ClientTls client = client(store("client", authority.issue("client"))).open();
        TestServer http = new TestServer(server.sslContext())) {
      for (Issued bad : List.of(expired, tomorrow)) {
        files.write(authority, bad);
        assertThat(server.reload()).isFalse();
        assertThat(server.reload()).isFalse();
        assertThat(presented(client, http)).isEqualTo(good.leaf());
      }
      assertThat(reloads)
          .hasSize(2)
          .extracting(reload -> reload.problem().orElseThrow())
          .allMatch(problem -> problem.startsWith(files.cert + ": the certificate is valid from "));
      Issued next = authority.issue("next");
      files.write(authority, next);
      assertThat(server.reload()).isTrue();
      assertThat(presented(client, http)).isEqualTo(next.leaf());
    }
  }

  @Test
  void keepsTheLastGoodCertificates_whateverBecomesOfTheFiles() throws Exception {
    Issued good = authority.issue("good");
    Store files = store("server", good);
    try (ServerTls server = server(files).open();
        ClientTls client = client(store("client", authority.issue("client"))).open();
        TestServer http = new TestServer(server.sslContext())) {
      writeString(files.key, "");
      server.reload();
      delete(files.key);
      server.reload();
      writeString(files.ca, "");
      server.reload();
      assertThat(reloads)
          .extracting(reload -> reload.problem().orElseThrow())
          .hasSize(3)
          .doesNotHaveDuplicates();
      assertThat(presented(client, http)).isEqualTo(good.leaf());

      files.write(authority, good);
      assertThat(server.reload()).isFalse();
      assertThat(reloads).hasSize(3);
      delete(files.key);
      server.reload();
      assertThat(reloads).hasSize(4); // a new problem, although the words are known
    }
  }

  @Test
  void survivesAListenerThatThrows() throws Exception {
    Store files = store("server", authority.issue("one"));
    try (ServerTls server = server(files)
        .onReload(reload -> {
          throw new IllegalStateException("listener");
        })
        .open()) {
      files.write(authority, authority.issue("two"));
      assertThat(server.reload()).isTrue();
    }
  }

  @Test
  void goesOnWatching_whenTheListenerThrowsAnError() throws Exception {
    BlockingQueue<CertificateReload> seen = new LinkedBlockingQueue<>();
    Store files = store("server", authority.issue("one"));
    try (ServerTls server = server(files)
        .reloadEvery(Duration.ofMillis(5))
        .onReload(reload -> {
          seen.add(reload);
          throw new NoClassDefFoundError("listener");
        })
        .open()) {
      writeString(files.key, "half written");
      assertThat(seen.poll(20, TimeUnit.SECONDS)).isNotNull();
      files.write(authority, authority.issue("two"));
      assertThat(seen.poll(20, TimeUnit.SECONDS)).isNotNull();
      assertThat(server.notAfter()).isPresent();
    }
  }

  @Test
  void refusesClientsOfARemovedAuthority_andNoLongerResumesTheirSessions() throws Exception {
    TestCa successor = TestCa.create();
    KeyPair keys = Keys.ec();
    Store files = store("server", authority.issue("server"));
    Store clientFiles = store("client", authority.issue("client", keys));
    try (ServerTls server = server(files).open();
        ClientTls client = client(clientFiles).open();
        TestServer http = new TestServer(server.sslContext())) {
      long first;
      try (SSLSocket socket = connect(client, http)) {
        first = socket.getSession().getCreationTime();
        assertThat(exchange(socket)).contains("CN=client");
      }
      try (SSLSocket socket = connect(client, http)) {
        assertThat(socket.getSession().getCreationTime())
            .as("a resumed session")
            .isEqualTo(first);
        assertThat(exchange(socket)).contains("CN=client");
      }

      writeString(files.ca, successor.pem());
      assertThat(server.reload()).isTrue();

      assertThat(serves(client, http)).isFalse();
      writeString(clientFiles.cert, successor.issue("client", keys).chainPem());
      assertThat(client.reload()).isTrue();
      assertThat(serves(client, http)).isTrue();
    }
  }

  /** A refused client learns of it in TLS 1.3 when it reads, as an alert or as the end of the stream. */
  private static boolean serves(ClientTls client, TestServer server) {
    try (SSLSocket socket = connect(client, server)) {
      return exchange(socket).contains("CN=client");
    } catch (IOException e) {
      return false;
    }
  }

  @Test
  void refusesAServerOfARemovedAuthority_andNoLongerResumesItsSessions() throws Exception {
    Store files = store("client", authority.issue("client"));
    try (ServerTls server = server(store("server", authority.issue("server"))).open();
        ClientTls client = client(files).open();
        TestServer http = new TestServer(server.sslContext())) {
      try (SSLSocket socket = connect(client, http)) {
        exchange(socket);
      }
      writeString(files.ca, TestCa.create().pem());
      assertThat(client.reload()).isTrue();
      assertThatThrownBy(() -> connect(client, http))
          .hasMessageContaining("unable to find valid certification path");
    }
  }

  @Test
  void resumesNoSessionAfterAnHour() throws Exception {
    try (ServerTls server = server(store("server", authority.issue("server"))).open()) {
      assertThat(server.sslContext().getServerSessionContext().getSessionTimeout())
          .isEqualTo(3600);
      assertThat(server.sslContext().getClientSessionContext().getSessionTimeout())
          .isEqualTo(3600);
    }
  }

  @Test
  void rotatesItsManagersToo_butNeverWithinAHandshake() throws Exception {
    Issued one = authority.issue("one");
    Issued two = authority.issue("two");
    TestCa successor = TestCa.create();
    Store files = store("server", one);
    try (ServerTls server = server(files).open()) {
      X509ExtendedKeyManager keys = server.keyManager();
      X509ExtendedTrustManager trust = server.trustManager();
      String alias = keys.chooseEngineServerAlias("EC", null, null);

      files.write(successor, two);
      server.reload();

      assertThat(keys.getCertificateChain(alias)).containsExactly(one.leaf());
      assertThat(keys.getPrivateKey(alias)).isEqualTo(one.keys().getPrivate());
      String next = keys.chooseEngineServerAlias("EC", null, null);
      assertThat(keys.getCertificateChain(next)).containsExactly(two.leaf());
      assertThat(keys.getPrivateKey(next)).isEqualTo(two.keys().getPrivate());
      assertThat(TestCa.pem(trust.getAcceptedIssuers()[0])).isEqualTo(successor.pem());
      assertThat(keys.chooseEngineServerAlias("RSA", null, null)).isNull();
    }
  }

  @Test
  void watchesTheFilesOnItsOwn_untilClosed() throws Exception {
    BlockingQueue<Thread> seen = new LinkedBlockingQueue<>();
    Store files = store("server", authority.issue("one"));
    ServerTls server = server(files)
        .reloadEvery(Duration.ofMillis(5))
        .onReload(reload -> seen.add(Thread.currentThread()))
        .open();
    writeString(files.key, "half written");
    Thread watcher = seen.poll(20, TimeUnit.SECONDS);
    assertThat(watcher).isNotNull();
    assertThat(watcher.getName()).isEqualTo("mtls-reload");
    assertThat(watcher.isDaemon()).isTrue();
    files.write(authority, authority.issue("two"));
    assertThat(seen.poll(20, TimeUnit.SECONDS)).isSameAs(watcher);
    server.close();
    server.close();
    watcher.join(20_000);
    assertThat(watcher.isAlive()).isFalse();
    assertThat(server.notAfter()).isPresent();
  }

  @Test
  void startsNoThread_whenNotAskedToWatch() throws Exception {
    // Those of other tests end when they have seen that they are closed.
    Set<Thread> before = watchers();
    try (ServerTls server = server(store("server", authority.issue("one"))).open()) {
      assertThat(server.notAfter()).isPresent();
      assertThat(before).containsAll(watchers());
    }
  }

  private static Set<Thread> watchers() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().equals("mtls-reload"))
        .collect(Collectors.toSet());
  }

  @Test
  void failsNoRequest_whileBothSidesRotate() throws Exception {
    rotateUnderLoad(2_000, 10);
  }

  @Test
  @Tag("soak")
  void failsNoRequest_whileBothSidesRotate_soak() throws Exception {
    rotateUnderLoad(50_000, 250);
  }

  /** Each request is a new connection; the files are replaced one by one, so that the watchers see halves. */
  private void rotateUnderLoad(int requests, int rotations) throws Exception {
    Store serverFiles = store("server", authority.issue("server"));
    Store clientFiles = store("client", authority.issue("client 0"));
    AtomicInteger started = new AtomicInteger();
    AtomicInteger rotation = new AtomicInteger();
    AtomicInteger reloaded = new AtomicInteger();
    Consumer<CertificateReload> counter =
        reload -> reloaded.addAndGet(reload.problem().isEmpty() ? 1 : 0);
    int threads = 4;
    ExecutorService pool = Executors.newFixedThreadPool(threads);
    long begin = System.nanoTime();
    try (ServerTls server = server(serverFiles)
            .reloadEvery(Duration.ofMillis(2))
            .onReload(counter)
            .open();
        ClientTls client = client(clientFiles)
            .reloadEvery(Duration.ofMillis(2))
            .onReload(counter)
            .open();
        TestServer http = new TestServer(server.sslContext())) {
      HttpClient httpClient = client.httpClient();
      Callable<Integer> load = () -> {
        int failed = 0;
        for (int n = started.incrementAndGet(); n <= requests; n = started.incrementAndGet()) {
          if (n % (requests / (rotations + 1)) == 0) {
            synchronized (rotation) { // or a slow one would mix its files with those of the next
              if (rotation.get() < rotations) {
                serverFiles.write(authority, authority.issue("server"));
                clientFiles.write(
                    authority, authority.issue("client " + rotation.incrementAndGet()));
              }
            }
          }
          failed += get(httpClient, http.uri()).startsWith("CN=client ") ? 0 : 1;
        }
        return failed;
      };
      for (Future<Integer> result : pool.invokeAll(Collections.nCopies(threads, load))) {
        assertThat(result.get()).isZero();
      }
      server.reload();
      client.reload();
      assertThat(get(httpClient, http.uri())).startsWith("CN=client " + rotations + " ");
    } finally {
      pool.shutdownNow();
    }
    System.out.printf(
        "figures: %d requests, each on its own connection, %d rotations of both sides seen as %d "
            + "reloads, %d ms, none failed%n",
        requests, rotations, reloaded.get(), (System.nanoTime() - begin) / 1_000_000);
    assertThat(reloaded.get()).isGreaterThanOrEqualTo(2);
  }
}
