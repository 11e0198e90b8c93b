package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Several Redis servers for tests: a cluster of three masters with a replica each, or a master and a replica with three
 * sentinels. A member fails by its own {@link RedisServer#kill}, {@link RedisServer#pause}, or by {@link #cutOff} here.
 *
 * <pre>{@code
 * try (RedisServers servers = RedisServers.startCluster();
 *     RedisCluster redis = RedisCluster.open(servers.url())) {
 *   servers.masters().getFirst().kill();
 * }
 * }</pre>
 *
 * <p>A replica is elected two to four seconds after its master has gone. Members keep nothing on disk: {@link
 * RedisServer#restart} a master only when another has taken its place, or its data is lost. All end with the JVM. Safe
 * for use by several threads.
 */
public final class RedisServers implements AutoCloseable {
  private static final String LOOPBACK = "127.0.0.1";
  private static final int SLOTS = 16_384;
  private static final int MASTERS = 3;
  private static final int SENTINELS = 3;
  private static final String DOWN_AFTER_MILLIS = "2000";

  private final Members members = new Members();
  private final Map<RedisServer, FaultProxy> servers = new LinkedHashMap<>();
  private final List<RedisServer> sentinels = new ArrayList<>();

  private RedisServers() {}

  /**
   * Starts a cluster: three masters, each with a replica.
   *
   * @return the servers, all slots served and each replica in step
   * @throws IllegalStateException when they cannot be started; the message says what to install
   */
  public static RedisServers startCluster() {
    return start(RedisServers::cluster);
  }

  /**
   * Starts a master with a replica, and three sentinels that watch them under the name {@code main}.
   *
   * @return the servers, the replica in step and known to each sentinel
   * @throws IllegalStateException when they cannot be started; the message says what to install
   */
  public static RedisServers startSentinels() {
    return start(RedisServers::master);
  }

  private interface Start {
    void in(RedisServers servers) throws IOException;
  }

  private static RedisServers start(Start start) {
    return ServerProcess.onFreePort(port -> {
      RedisServers servers = new RedisServers();
      try {
        start.in(servers);
        servers.awaitReady();
        return servers;
      } catch (IOException e) {
        servers.close();
        throw new IllegalStateException("cannot start Redis: " + e.getMessage(), e);
      } catch (RuntimeException e) {
        servers.close();
        throw e;
      }
    });
  }

  private void cluster() throws IOException {
    List<String> buses = new ArrayList<>();
    for (int i = 0; i < 2 * MASTERS; i++) {
      int[] ports = ServerProcess.freePorts(2);
      String bus = Integer.toString(ports[1]);
      FaultProxy proxy = members.add(FaultProxy.start(ports[0]));
      add(
          proxy,
          ports[0],
          List.of(
              "--cluster-enabled",
              "yes",
              "--cluster-port",
              bus,
              "--cluster-announce-bus-port",
              bus,
              "--cluster-announce-ip",
              LOOPBACK,
              "--cluster-announce-port",
              Integer.toString(proxy.port()),
              "--cluster-node-timeout",
              DOWN_AFTER_MILLIS,
              "--cluster-replica-validity-factor",
              "0",
              "--repl-diskless-sync-delay",
              "0"));
      buses.add(bus);
    }
    List<RedisServer> nodes = servers();
    for (int i = 0; i < MASTERS; i++) {
      int from = i * SLOTS / MASTERS;
      int to = (i + 1) * SLOTS / MASTERS - 1;
      setUp(nodes.get(i), "CLUSTER ADDSLOTSRANGE " + from + " " + to);
    }
    for (int i = 1; i < nodes.size(); i++) {
      int port = Objects.requireNonNull(servers.get(nodes.get(i))).port();
      setUp(nodes.getFirst(), "CLUSTER MEET " + LOOPBACK + " " + port + " " + buses.get(i));
    }
    for (int i = 0; i < MASTERS; i++) {
      String master = setUp(nodes.get(i), "CLUSTER MYID");
      RedisServer replica = nodes.get(i + MASTERS);
      Members.await(
          "a Redis replica", () -> setUp(replica, "CLUSTER REPLICATE " + master).equals("OK"));
    }
  }

  private void master() throws IOException {
    int[] ports = ServerProcess.freePorts(2 + SENTINELS);
    FaultProxy master = members.add(FaultProxy.start(ports[0]));
    FaultProxy replica = members.add(FaultProxy.start(ports[1]));
    add(master, ports[0], announced(master));
    List<String> follows = new ArrayList<>(announced(replica));
    follows.addAll(List.of("--replicaof", LOOPBACK + " " + master.port()));
    add(replica, ports[1], follows);
    for (int i = 0; i < SENTINELS; i++) {
      RedisServer sentinel = members.add(
          RedisServer.start(ports[2 + i], Host.current(), List.of(RedisServer.SENTINEL)));
      sentinels.add(sentinel);
      setUp(sentinel, "SENTINEL MONITOR main " + LOOPBACK + " " + master.port() + " 2");
      setUp(sentinel, "SENTINEL SET main down-after-milliseconds " + DOWN_AFTER_MILLIS);
      setUp(sentinel, "SENTINEL SET main failover-timeout 5000");
    }
  }

  private static List<String> announced(FaultProxy proxy) {
    return List.of(
        "--replica-announce-ip",
        LOOPBACK,
        "--replica-announce-port",
        Integer.toString(proxy.port()),
        "--repl-diskless-sync-delay",
        "0");
  }

  private void add(FaultProxy proxy, int port, List<String> arguments) {
    servers.put(members.add(RedisServer.start(port, Host.current(), arguments)), proxy);
  }

  /** Of a server that was just ready; with a limit against hanging, not one of speed. */
  private static String setUp(RedisServer server, String command) throws IOException {
    return RedisServer.call(server.port(), command, 30_000);
  }

  /** Of a server that may be away. */
  private static String ask(RedisServer server, String command) throws IOException {
    return RedisServer.call(server.port(), command);
  }

  /**
   * Returns where the servers are, in the form that a service has in its environment.
   *
   * @return {@code redis://127.0.0.1:7001,127.0.0.1:7002,…} with the nodes of the cluster, or {@code
   *     redis-sentinel://127.0.0.1:7001,…/0#main} with the sentinels
   */
  public String url() {
    return sentinels.isEmpty()
        ? hosts(servers.values().stream().map(FaultProxy::port), "redis://", "")
        : hosts(sentinels.stream().map(RedisServer::port), "redis-sentinel://", "/0#main");
  }

  private static String hosts(Stream<Integer> ports, String scheme, String rest) {
    return ports.map(port -> LOOPBACK + ":" + port).collect(Collectors.joining(",", scheme, rest));
  }

  /**
   * The servers that hold data.
   *
   * @return the six of a cluster, or the two that sentinels watch; the first masters first
   */
  public List<RedisServer> servers() {
    return List.copyOf(servers.keySet());
  }

  /**
   * The sentinels.
   *
   * @return three, or none of a cluster
   */
  public List<RedisServer> sentinels() {
    return List.copyOf(sentinels);
  }

  /**
   * Returns the servers that say at this moment that they are masters. One that has failed is not among them; one that
   * is cut off is, beside that which has taken its place.
   *
   * @return the masters, in the order of {@link #servers()}
   */
  public List<RedisServer> masters() {
    return servers().stream()
        .filter(server -> server.info("replication", "role").equals(Optional.of("master")))
        .toList();
  }

  /**
   * Waits until every server is up and has its part again: a master for all data, each replica in step with its master,
   * and every sentinel knows all.
   *
   * @throws IllegalStateException when that is not so within 60 s
   */
  public void awaitReady() {
    int masters = sentinels.isEmpty() ? MASTERS : 1;
    Members.await(
        "Redis with all its replicas",
        () -> masters().size() == masters
            && servers().stream().allMatch(RedisServers::inStep)
            && (sentinels.isEmpty() ? servers() : sentinels).stream().allMatch(this::knowsAll));
  }

  private static boolean inStep(RedisServer server) {
    return server.info("replication", "role").equals(Optional.of("master"))
        || server.info("replication", "master_link_status").equals(Optional.of("up"));
  }

  private boolean knowsAll(RedisServer server) {
    try {
      if (sentinels.isEmpty()) {
        String info = ask(server, "CLUSTER INFO");
        return RedisServer.field(info, "cluster_state").equals(Optional.of("ok"))
            && RedisServer.field(info, "cluster_slots_ok").equals(Optional.of("" + SLOTS))
            && RedisServer.field(info, "cluster_known_nodes")
                .equals(Optional.of("" + servers.size()));
      }
      String info = ask(server, "INFO sentinel");
      return info.contains("status=ok,") && info.contains("slaves=1,sentinels=" + SENTINELS);
    } catch (IOException e) {
      return false;
    }
  }

  /**
   * Cuts a server off: clients, replicas and sentinels get no answer from it until {@link #heal}, while it keeps
   * running. Sentinels put another in its place; a cluster does not, because its nodes still hear each other on their
   * own bus.
   *
   * @param server one of {@link #servers()}
   */
  public void cutOff(RedisServer server) {
    proxy(server).blackHole();
  }

  /**
   * Ends {@link #cutOff}.
   *
   * @param server one of {@link #servers()}
   */
  public void heal(RedisServer server) {
    proxy(server).heal();
  }

  private FaultProxy proxy(RedisServer server) {
    return Objects.requireNonNull(servers.get(server), "server");
  }

  /** Stops all servers at once and deletes their files. Safe to call twice. */
  @Override
  public void close() {
    members.close();
  }
}
