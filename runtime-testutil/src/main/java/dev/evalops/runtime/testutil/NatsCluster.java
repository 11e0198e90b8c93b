package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLConnection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * Three NATS servers with JetStream that form a cluster, for tests. A member fails by its own {@link NatsServer#kill},
 * {@link NatsServer#pause}, or by {@link #cutOff} here.
 *
 * <pre>{@code
 * try (NatsCluster nats = NatsCluster.start();
 *     NatsBus bus = NatsBus.builder(nats.url()).stream("NOTES").replicas(3).subjectPrefix("notes").open()) {
 *   nats.leader("NOTES").orElseThrow().kill();
 * }
 * }</pre>
 *
 * <p>A new leader is elected four to ten seconds after the old one has gone. What a server has stored is there after
 * {@link NatsServer#restart}. All end with the JVM. Safe for use by several threads.
 */
public final class NatsCluster implements AutoCloseable {
  private static final int SIZE = 3;
  private static final int PORTS = 3; // of clients, routes and monitoring

  private final Members members = new Members();
  private final List<Node> nodes = new ArrayList<>();

  /** The ways to the other servers are its own, so that both directions can be cut. */
  private record Node(
      Path directory,
      String configuration,
      NatsServer server,
      FaultProxy clients,
      List<FaultProxy> routes,
      int monitoring) {
    String name() {
      return directory.getFileName().toString();
    }
  }

  private NatsCluster() {}

  /**
   * Starts a cluster.
   *
   * @return three servers that know each other, with a leader that makes streams
   * @throws IllegalStateException when they cannot be started; the message says what to install
   */
  public static NatsCluster start() {
    return ServerProcess.onFreePort(port -> {
      NatsCluster cluster = new NatsCluster();
      try {
        cluster.startAll();
        cluster.awaitReady();
        return cluster;
      } catch (RuntimeException e) {
        cluster.close();
        throw e;
      }
    });
  }

  private void startAll() {
    int[] ports = ServerProcess.freePorts(SIZE * PORTS);
    for (int i = 0; i < SIZE; i++) {
      List<FaultProxy> routes = new ArrayList<>();
      for (int other = 0; other < SIZE; other++) {
        if (other != i) {
          routes.add(members.add(FaultProxy.start(ports[other * PORTS + 1])));
        }
      }
      FaultProxy clients = members.add(FaultProxy.start(ports[i * PORTS]));
      int monitoring = ports[i * PORTS + 2];
      Path directory = ServerProcess.newDirectory("nats");
      // The address that servers tell each other is one where nobody is: each knows the others by
      // its routes.
      String configuration = """
          server_name: "%s"
          pid_file: "pid"
          listen: "127.0.0.1:%d"
          client_advertise: "127.0.0.1:%d"
          http: "127.0.0.1:%d"
          jetstream { store_dir: "store" }
          cluster {
            name: "test"
            listen: "127.0.0.1:%d"
            advertise: "127.0.0.1:1"
            routes: [%s]
          }
          """.formatted(
              directory.getFileName(),
              ports[i * PORTS],
              clients.port(),
              monitoring,
              ports[i * PORTS + 1],
              routes.stream()
                  .map(route -> "\"nats-route://127.0.0.1:" + route.port() + "\"")
                  .collect(Collectors.joining(", ")));
      NatsServer server =
          members.add(NatsServer.start(ports[i * PORTS], directory, Host.current(), configuration));
      nodes.add(new Node(directory, configuration, server, clients, routes, monitoring));
    }
  }

  /**
   * Returns where the servers are, in the form that a service has in its environment.
   *
   * @return {@code nats://127.0.0.1:4001,nats://127.0.0.1:4002,nats://127.0.0.1:4003}
   */
  public String url() {
    return nodes.stream()
        .map(node -> "nats://127.0.0.1:" + node.clients().port())
        .collect(Collectors.joining(","));
  }

  /**
   * The servers.
   *
   * @return three
   */
  public List<NatsServer> servers() {
    return nodes.stream().map(Node::server).toList();
  }

  /**
   * The server that leads a stream, as two of the three say.
   *
   * @param stream the name of the stream
   * @return empty while they do not agree on a leader, or have no such stream
   */
  public Optional<NatsServer> leader(String stream) {
    List<String> named = nodes.stream().map(node -> leaderOf(stream, node)).toList();
    return nodes.stream()
        .filter(node -> Collections.frequency(named, node.name()) > SIZE / 2)
        .map(Node::server)
        .findFirst();
  }

  private static String leaderOf(String stream, Node asked) {
    try {
      for (JsonNode each : streams(asked)) {
        if (each.path("name").asString("").equals(stream)) {
          return each.path("cluster").path("leader").asString("");
        }
      }
    } catch (IOException e) {
      // it does not answer; the others may
    }
    return "";
  }

  private static List<JsonNode> streams(Node asked) throws IOException {
    List<JsonNode> streams = new ArrayList<>();
    for (JsonNode account : monitored(asked, "/jsz?streams=true").path("account_details")) {
      account.path("stream_detail").forEach(streams::add);
    }
    return streams;
  }

  /** Whether all replicas of the streams that this server leads have what it has. */
  private static boolean isFollowed(Node leader) throws IOException {
    for (JsonNode each : streams(leader)) {
      JsonNode cluster = each.path("cluster");
      if (cluster.path("leader").asString("").isEmpty()) {
        return false;
      }
      for (JsonNode replica : cluster.path("replicas")) {
        if (cluster.path("leader").asString("").equals(leader.name())
            && !replica.path("current").asBoolean(false)) {
          return false;
        }
      }
    }
    return true;
  }

  /**
   * Lets clients in with this login alone; at first everybody is. Servers end the connections that were made with
   * another. Returns when those that are up have taken it; one that is not up does when it is started again.
   *
   * @param user the user
   * @param password the password
   * @throws IllegalStateException when a server does not take it within 60 s
   */
  public void requireLogin(String user, String password) {
    String login = "authorization { user: \"%s\", password: \"%s\" }%n".formatted(user, password);
    for (Node node : nodes) {
      try {
        Files.writeString(node.directory().resolve("nats.conf"), node.configuration() + login);
        reload(node);
      } catch (IOException e) {
        throw new UncheckedIOException("cannot change the login: " + e.getMessage(), e);
      }
    }
  }

  private static void reload(Node node) throws IOException {
    String before;
    try {
      before = configured(node);
    } catch (IOException e) {
      return; // it is not up
    }
    String processId = Files.readString(node.directory().resolve("pid")).strip();
    new ProcessBuilder("/bin/sh", "-c", "kill -HUP " + processId).start();
    Members.await("a new login of a NATS server", () -> !configured(node).equals(before));
  }

  private static String configured(Node node) throws IOException {
    return monitored(node, "/varz").path("config_load_time").asString("");
  }

  /**
   * Returns the version of the servers, for the figures of a test.
   *
   * @return such as {@code 2.14.1}
   * @throws IllegalStateException when no server tells it
   */
  public String version() {
    for (Node node : nodes) {
      try {
        return monitored(node, "/varz").path("version").asString("");
      } catch (IOException e) {
        // it does not answer; the others may
      }
    }
    throw new IllegalStateException("no NATS server answers");
  }

  /**
   * Returns what each server says of its streams and their consumers, for the message of a failed test.
   *
   * @return JSON of each server, or why it gave none
   */
  public String report() {
    StringBuilder report = new StringBuilder();
    for (Node node : nodes) {
      report.append(node.name()).append(' ');
      try {
        report.append(monitored(node, "/varz").path("version").asString("")).append(' ');
        report.append(monitored(node, "/jsz?consumers=true&config=true"));
      } catch (IOException e) {
        report.append(e);
      }
      report.append(System.lineSeparator());
    }
    return report.toString();
  }

  private static JsonNode monitored(Node node, String path) throws IOException {
    URLConnection connection =
        URI.create("http://127.0.0.1:" + node.monitoring() + path).toURL().openConnection();
    connection.setConnectTimeout(1000);
    connection.setReadTimeout(1000);
    try (var in = connection.getInputStream()) {
      return JsonMapper.shared().readTree(in.readAllBytes());
    }
  }

  /**
   * Waits until every server is up, and has all that the others have stored.
   *
   * @throws IllegalStateException when that is not so within 60 s
   */
  public void awaitReady() {
    Members.await("a NATS cluster in step", () -> {
      Set<String> leaders = new HashSet<>();
      for (Node node : nodes) {
        if (!monitored(node, "/healthz").path("status").asString("").equals("ok")
            || !isFollowed(node)) {
          return false;
        }
        JsonNode meta = monitored(node, "/jsz").path("meta_cluster");
        leaders.add(meta.path("leader").asString(""));
      }
      return leaders.size() == 1 && !leaders.contains("");
    });
  }

  /**
   * Cuts a server off from clients and from the other servers until {@link #heal}, while it keeps running.
   *
   * @param server one of {@link #servers()}
   */
  public void cutOff(NatsServer server) {
    waysTo(server).forEach(FaultProxy::blackHole);
  }

  /**
   * Ends {@link #cutOff}.
   *
   * @param server one of {@link #servers()}
   */
  public void heal(NatsServer server) {
    waysTo(server).forEach(FaultProxy::heal);
  }

  private List<FaultProxy> waysTo(NatsServer server) {
    int index = servers().indexOf(server);
    if (index < 0) {
      throw new IllegalArgumentException("server must be one of this cluster: " + server);
    }
    List<FaultProxy> ways = new ArrayList<>(nodes.get(index).routes());
    ways.add(nodes.get(index).clients());
    for (int other = 0; other < SIZE; other++) {
      if (other != index) {
        ways.add(nodes.get(other).routes().get(index < other ? index : index - 1));
      }
    }
    return ways;
  }

  /** Stops all servers at once and deletes their files. Safe to call twice. */
  @Override
  public void close() {
    members.close();
  }
}
