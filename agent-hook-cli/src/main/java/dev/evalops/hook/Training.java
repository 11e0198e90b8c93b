package dev.evalops.hook;

import dev.evalops.runtime.mtls.Mtls;
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
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/**
 * The run of which a start-up cache is made: the hook asks a service of our own, which allows, once over http and once over
 * mTLS. The service runs in the process that makes the cache, with certificates that live for as long.
 */
final class Training implements AutoCloseable {
  private static final String PASSWORD = "training";
  private static final int TIMEOUT_MILLIS = 10_000;
  private static final byte[] ALLOW =
      "{\"evaluation\":{\"decision\":\"ACTION_DECISION_ALLOW\",\"riskLevel\":\"RISK_LEVEL_LOW\"}}"
          .getBytes(StandardCharsets.US_ASCII);

  private final List<ServerSocket> servers = new ArrayList<>();
  private final List<String> arguments = new ArrayList<>();

  private Training() {}

  /**
   * Starts the service.
   *
   * @param work a folder that nobody else can write
   */
  static Training start(Path work) throws IOException {
    Training training = new Training();
    try {
      Path http = work.resolve("http.properties");
      ServerSocket plain = training.serve(new ServerSocket(0, 0, InetAddress.getLoopbackAddress()));
      Files.writeString(http, configuration("http://127.0.0.1:" + plain.getLocalPort()));
      training.arguments.add(http.toString());

      certificates(work);
      Path ca = work.resolve("ca.pem");
      Path certificate = work.resolve("certificate.pem");
      Path key = work.resolve("key.pem");
      Mtls tls = Mtls.server()
          .certificate(certificate, key)
          .requireClients(ca)
          .reloadEvery(Duration.ZERO)
          .build();
      ServerSocket secure = training.serve(tls.sslContext()
          .getServerSocketFactory()
          .createServerSocket(0, 0, InetAddress.getLoopbackAddress()));
      Path https = work.resolve("https.properties");
      Files.writeString(
          https,
          configuration("https://127.0.0.1:" + secure.getLocalPort()) + "EVALOPS_CA_FILE=" + ca
              + "\nEVALOPS_CERT_FILE=" + certificate + "\nEVALOPS_KEY_FILE=" + key + "\n");
      training.arguments.add(https.toString());
      return training;
    } catch (IOException | RuntimeException e) {
      training.close();
      throw e;
    }
  }

  private static String configuration(String url) {
    return "EVALOPS_GOVERNANCE_URL=" + url
        + "\nEVALOPS_WORKSPACE_ID=training\nEVALOPS_AGENT_TOKEN=training\n";
  }

  /** For the JVM that is trained. */
  List<String> arguments() {
    return List.copyOf(arguments);
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
  private static void certificates(Path work) throws IOException {
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
    try (InputStream in = Files.newInputStream(store)) {
      KeyStore keys = KeyStore.getInstance("PKCS12");
      keys.load(in, PASSWORD.toCharArray());
      Key key = keys.getKey("leaf", PASSWORD.toCharArray());
      write(work.resolve("ca.pem"), "CERTIFICATE", keys.getCertificate("ca").getEncoded());
      Certificate leaf = keys.getCertificate("leaf");
      write(work.resolve("certificate.pem"), "CERTIFICATE", leaf.getEncoded());
      write(work.resolve("key.pem"), "PRIVATE KEY", key.getEncoded());
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
    int status = StartupCache.run(command);
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
