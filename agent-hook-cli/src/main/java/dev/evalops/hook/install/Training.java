package dev.evalops.hook.install;

import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * The run of which a start-up cache is made: the hook asks a service of our own, which allows, once over http and once
 * over mTLS. The service runs in the process that makes the cache, with certificates that live for as long.
 */
final class Training implements AutoCloseable {
  /** What is trained; without arguments it does nothing, which shows that a JVM can start. */
  static final String PROGRAM = "dev.evalops.hook.Rehearsal";

  /** The status of a process that was trained. */
  static final int ALLOWED = 42;

  private static final String EVENT_FILE = "event.json";
  private static final String HTTP_FILE = "http.properties";
  private static final String MTLS_FILE = "mtls.properties";
  private static final String EVENT =
      "{\"session_id\":\"s\",\"cwd\":\"/\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\","
          + "\"tool_input\":{\"command\":\"ls -l \\\"a "
          + "b\\\"\",\"timeout\":1000,\"background\":false},\"tool_use_id\":\"t\"}";
  private static final String CA_FILE = "ca.pem";
  private static final String CERT_FILE = "certificate.pem";
  private static final String KEY_FILE = "key.pem";
  private static final String PASSWORD = "training";
  private static final int TIMEOUT_MILLIS = 10_000;
  private static final byte[] ALLOW =
      "{\"evaluation\":{\"decision\":\"ACTION_DECISION_ALLOW\",\"riskLevel\":\"RISK_LEVEL_LOW\"}}"
          .getBytes(StandardCharsets.US_ASCII);

  private final List<ServerSocket> servers = new ArrayList<>();
  private final Map<String, String> http = new TreeMap<>();
  private final Map<String, String> mtls = new TreeMap<>();

  private final Path work;

  private Training(Path work) {
    this.work = work;
    for (Map<String, String> environment : List.of(http, mtls)) {
      environment.put("EVALOPS_WORKSPACE_ID", "training");
      environment.put("EVALOPS_AGENT_ID", "training");
      environment.put("EVALOPS_AGENT_TOKEN", "training");
    }
  }

  /**
   * Starts the service.
   *
   * @param work a folder that nobody else can write
   */
  static Training start(Path work) throws IOException {
    Training training = new Training(work);
    try {
      ServerSocket plain = training.serve(new ServerSocket(0, 0, InetAddress.getLoopbackAddress()));
      training.http.put("EVALOPS_GOVERNANCE_URL", "http://127.0.0.1:" + plain.getLocalPort());

      SSLServerSocket secure = (SSLServerSocket) certificates(work)
          .getServerSocketFactory()
          .createServerSocket(0, 0, InetAddress.getLoopbackAddress());
      secure.setNeedClientAuth(true);
      training.serve(secure);
      training.mtls.put("EVALOPS_GOVERNANCE_URL", "https://127.0.0.1:" + secure.getLocalPort());
      training.mtls.put("EVALOPS_CA_FILE", work.resolve(CA_FILE).toString());
      training.mtls.put("EVALOPS_CERT_FILE", work.resolve(CERT_FILE).toString());
      training.mtls.put("EVALOPS_KEY_FILE", work.resolve(KEY_FILE).toString());
      Files.writeString(work.resolve(HTTP_FILE), properties(training.http));
      Files.writeString(work.resolve(MTLS_FILE), properties(training.mtls));
      Files.writeString(work.resolve(EVENT_FILE), EVENT);
      return training;
    } catch (IOException | RuntimeException e) {
      training.close();
      throw e;
    }
  }

  private static String properties(Map<String, String> settings) {
    StringBuilder properties = new StringBuilder();
    settings.forEach((key, value) ->
        properties.append(key).append('=').append(value.replace("\\", "\\\\")).append('\n'));
    return properties.toString();
  }

  /** The standard input of the trained process. */
  Path event() {
    return work.resolve(EVENT_FILE);
  }

  /** The class of the trained process, and its arguments. */
  String[] arguments() {
    return new String[] {
      PROGRAM,
      event().toString(),
      work.resolve(MTLS_FILE).toString(),
      work.resolve(HTTP_FILE).toString(),
      String.valueOf(ALLOWED)
    };
  }

  /** That of a hook which asks this service. */
  Map<String, String> environment(boolean overMtls) {
    return overMtls ? mtls : http;
  }

  private ServerSocket serve(ServerSocket server) {
    servers.add(server);
    Thread thread = new Thread(() -> accept(server), "training-service");
    thread.setDaemon(true);
    thread.start();
    return server;
  }

  private static void accept(ServerSocket server) {
    while (!server.isClosed()) {
      try (Socket socket = server.accept()) {
        // As every server does; else its answer in two parts waits for an acknowledgement.
        socket.setTcpNoDelay(true);
        socket.setSoTimeout(TIMEOUT_MILLIS);
        InputStream in = new BufferedInputStream(socket.getInputStream());
        int length = 0;
        for (String line = line(in); !line.isEmpty(); line = line(in)) {
          if (line.regionMatches(true, 0, "content-length:", 0, 15)) {
            length = Integer.parseInt(line.substring(15).strip());
          }
        }
        in.readNBytes(length);
        OutputStream out = socket.getOutputStream();
        String head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
            + ALLOW.length + "\r\n\r\n";
        out.write(head.getBytes(StandardCharsets.US_ASCII));
        out.write(ALLOW);
        out.flush();
        in.read(); // until the client closes
      } catch (IOException | NumberFormatException e) {
        // The trained process notices, and fails.
      }
    }
  }

  private static String line(InputStream in) throws IOException {
    StringBuilder line = new StringBuilder();
    for (int c = in.read(); c != '\n'; c = in.read()) {
      if (c < 0) {
        throw new IOException("the request does not end");
      }
      if (c != '\r') {
        line.append((char) c);
      }
    }
    return line.toString();
  }

  /** Makes an authority and a certificate for both sides, with the program that every JDK and JRE has. */
  private static SSLContext certificates(Path work) throws IOException {
    Path store = work.resolve("store.p12");
    keytool(store, "ca", "-dname", "CN=training authority", "-ext", "bc:c");
    keytool(
        store,
        "leaf",
        "-dname",
        "CN=training",
        "-ext",
        "san=dns:localhost,ip:127.0.0.1",
        "-signer",
        "ca");
    char[] password = PASSWORD.toCharArray();
    try (InputStream in = Files.newInputStream(store)) {
      KeyStore made = KeyStore.getInstance("PKCS12");
      made.load(in, password);
      Certificate ca = made.getCertificate("ca");
      Certificate leaf = made.getCertificate("leaf");
      Key key = made.getKey("leaf", password);
      write(work.resolve(CA_FILE), "CERTIFICATE", ca.getEncoded());
      write(work.resolve(CERT_FILE), "CERTIFICATE", leaf.getEncoded());
      write(work.resolve(KEY_FILE), "PRIVATE KEY", key.getEncoded());

      KeyStore stores = KeyStore.getInstance("PKCS12");
      stores.load(null, null);
      stores.setCertificateEntry("ca", ca);
      stores.setKeyEntry("leaf", key, password, new Certificate[] {leaf});
      KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
      keys.init(stores, password);
      TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
      trust.init(stores);
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
      return context;
    } catch (GeneralSecurityException e) {
      throw new IOException("keytool made nothing that can be used", e);
    }
  }

  private static void keytool(Path store, String alias, String... more) throws IOException {
    List<String> command = new ArrayList<>(List.of(
        Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
        "-genkeypair",
        "-alias",
        alias,
        "-keyalg",
        "EC",
        "-groupname",
        "secp256r1",
        "-validity",
        "1",
        "-storetype",
        "PKCS12",
        "-keystore",
        store.toString(),
        "-storepass",
        PASSWORD));
    command.addAll(List.of(more));
    int status = StartupCache.run(command, StartupCache.NOTHING);
    if (status != 0) {
      throw new IOException("keytool ended with status " + status);
    }
  }

  private static void write(Path file, String label, byte[] der) throws IOException {
    String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
    Files.writeString(
        file, "-----BEGIN " + label + "-----\n" + base64 + "\n-----END " + label + "-----\n");
  }

  @Override
  public void close() {
    for (ServerSocket server : servers) {
      try {
        server.close();
      } catch (IOException e) {
        // Nobody is left to miss it.
      }
    }
  }
}
