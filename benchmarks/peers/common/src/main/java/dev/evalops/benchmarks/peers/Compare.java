package dev.evalops.benchmarks.peers;

import static dev.evalops.benchmarks.peers.Column.BYTES;
import static dev.evalops.benchmarks.peers.Column.CPU;
import static dev.evalops.benchmarks.peers.Column.FAILED;
import static dev.evalops.benchmarks.peers.Column.P99;
import static dev.evalops.benchmarks.peers.Column.RATE;
import static dev.evalops.benchmarks.peers.Column.READY;
import static dev.evalops.benchmarks.peers.Column.RSS;
import static dev.evalops.benchmarks.peers.Column.START_CPU;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.net.SocketFactory;

/**
 * Starts each service as a process of its own, pinned to cores, loads it with {@code wrk} and writes a table and a
 * chart for each scenario: rounds in turn, each with fresh processes, medians.
 */
public final class Compare {
  private enum Scenario {
    /** One core for the service, another for wrk. */
    ONE_CORE(32, 3, CPU, BYTES, RATE, P99, READY, RSS),
    /** The service and wrk share both. */
    TWO_CORES(32, 3, CPU, BYTES, RATE, P99, RSS),
    /** As ONE_CORE, over HTTPS. */
    TLS(32, 3, CPU, BYTES, RATE, P99),
    /** As ONE_CORE; longer parts, so that connecting weighs little. */
    CONNECTIONS(1000, 10, CPU, BYTES, RATE, P99, FAILED, RSS),
    /** No load: until the first answer, without and with an ahead-of-time cache. */
    START(32, 3, READY, START_CPU);

    final int connections;
    final int partSeconds;
    final List<Column> columns;

    Scenario(int connections, int partSeconds, Column... columns) {
      this.connections = connections;
      this.partSeconds = partSeconds;
      this.columns = List.of(columns);
    }

    static Scenario of(String name) {
      for (Scenario scenario : values()) {
        if (scenario.toString().equals(name)) {
          return scenario;
        }
      }
      throw new IllegalArgumentException("no scenario " + name + ", only " + Arrays.toString(values()));
    }

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
  }

  private static final Set<Scenario> FIRST = EnumSet.of(Scenario.ONE_CORE);
  private static final Set<Scenario> LOADS = EnumSet.complementOf(EnumSet.of(Scenario.START));
  private static final Set<Scenario> ALL = EnumSet.allOf(Scenario.class);

  private record Contender(
      String name, String module, String main, String mode, Set<Scenario> scenarios, boolean cached) {
    Contender(String name, String module, String main, String mode, Set<Scenario> scenarios) {
      this(name, module, main, mode, scenarios, false);
    }

    Contender withCache() {
      return new Contender(name + ", with the cache", module, main, mode, scenarios, true);
    }
  }

  private static final List<Contender> CONTENDERS = List.of(
      new Contender("JDK's server alone, virtual threads", "jdk", "JdkAlone", "virtual", LOADS),
      new Contender("JDK's server alone, a pool", "jdk", "JdkAlone", "pool", LOADS),
      new Contender("`HttpService` alone", "runtime", "OnRuntime", "bare", LOADS),
      new Contender("this library", "runtime", "OnRuntime", "service", ALL),
      new Contender("this library with `browserGuards`", "runtime", "OnRuntime", "guards", FIRST),
      new Contender("Javalin 7", "javalin", "OnJavalin", "", ALL),
      new Contender("Helidon SE 4", "helidon", "OnHelidon", "", ALL),
      new Contender("Spring Boot 4, idiomatic", "spring", "OnSpring", "idiomatic", FIRST),
      new Contender("Spring Boot 4, tuned", "spring", "OnSpring", "tuned", ALL),
      new Contender("Spring Boot 4, bare", "spring", "OnSpring", "bare", FIRST),
      new Contender("this library in Spring Boot 4", "spring", "OnSpring", "runtime", LOADS),
      new Contender("this library in Jetty 12", "runtime", "OnRuntime", "jetty", LOADS),
      new Contender("this library in Tomcat 11", "runtime", "OnRuntime", "tomcat", LOADS));

  // Requests, not seconds: on a busy machine seconds compile nothing. On one core most of it is compiled after so many.
  private static final int WARM_UP_REQUESTS = 400_000;
  private static final int MEASURED_REQUESTS = 100_000;

  private final Path folder;
  private final Scenario scenario;
  private final String serverCores;
  private final SocketFactory sockets;
  private final Wrk wrk;

  private Compare(Path folder, Scenario scenario, String serverCores, String loadCores) throws Exception {
    boolean shared = scenario == Scenario.TWO_CORES;
    String all = serverCores + "," + loadCores;
    this.folder = folder;
    this.scenario = scenario;
    this.serverCores = shared ? all : serverCores;
    this.sockets = scenario == Scenario.TLS
        ? keyFiles().context().getSocketFactory()
        : SocketFactory.getDefault();
    this.wrk = new Wrk(shared ? all : loadCores, scenario.connections, scenario.partSeconds);
  }

  /**
   * Runs the scenarios.
   *
   * @param args the folder of the peers, the cores of the server, those of wrk, rounds, a pattern for the names of the
   *     services, and the scenarios
   */
  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]).toAbsolutePath();
    int rounds = Integer.parseInt(args[3]);
    Pattern which = Pattern.compile(args[4], Pattern.CASE_INSENSITIVE);
    Path results = Files.createDirectories(folder.resolve("target/results"));
    for (Scenario scenario : Stream.of(args).skip(5).map(Scenario::of).toList()) {
      Report report = new Compare(folder, scenario, args[1], args[2]).run(rounds, which);
      Files.writeString(results.resolve(scenario + ".md"), report.table());
      Files.writeString(results.resolve(scenario + ".svg"), report.chart());
      System.out.printf("**%s**%n%n%s%n", scenario, report.table());
    }
  }

  private Report run(int rounds, Pattern which) throws Exception {
    List<Contender> contenders = new ArrayList<>();
    for (Contender contender : CONTENDERS) {
      if (contender.scenarios.contains(scenario) && which.matcher(contender.name).find()) {
        contenders.add(contender);
        if (scenario == Scenario.START) {
          train(contender);
          contenders.add(contender.withCache());
        }
      }
    }
    if (contenders.isEmpty()) {
      throw new IllegalArgumentException("no service of " + scenario + " matches " + which);
    }
    Map<String, List<Map<Column, Double>>> samples = new LinkedHashMap<>();
    for (int round = 1; round <= rounds; round++) {
      for (Contender contender : contenders) {
        Map<Column, Double> sample = measure(contender);
        samples.computeIfAbsent(contender.name, name -> new ArrayList<>()).add(sample);
        System.err.printf("%s, round %d: %s: %s%n", scenario, round, contender.name, sample);
      }
    }
    return new Report(scenario.columns, samples);
  }

  private Map<Column, Double> measure(Contender contender) throws Exception {
    try (Server server = start(contender, contender.cached
        ? List.of("-XX:AOTCache=" + cache(contender), "-XX:AOTMode=on") // not without it when it does not fit
        : List.of())) {
      double startCpu = server.cpuMillis();
      if (scenario == Scenario.START) {
        return Map.of(READY, server.readyMillis(), START_CPU, startCpu);
      }
      // Connected before the load: the classes that this loads would undo what has been compiled.
      try (JMXConnector jmx = server.connect()) {
        MBeanServerConnection beans = jmx.getMBeanServerConnection();
        allocated(beans);
        wrk.load(server.origin, WARM_UP_REQUESTS);
        double cpuBefore = server.cpuMillis();
        long bytesBefore = allocated(beans);
        Wrk.Load load = wrk.load(server.origin, MEASURED_REQUESTS);
        if (load.failed() > 0 && !scenario.columns.contains(FAILED)) {
          throw new IllegalStateException(contender.name + ": failed requests: " + load);
        }
        return Map.of(
            CPU, (server.cpuMillis() - cpuBefore) / load.requests() * 10_000,
            BYTES, (allocated(beans) - bytesBefore) / load.requests(),
            RATE, load.rate(),
            P99, load.p99(),
            FAILED, load.failed(),
            READY, server.readyMillis(),
            RSS, server.residentMiB());
      }
    }
  }

  /** Writes the cache of a run that has served requests; the JVM does that when it ends. */
  private void train(Contender contender) throws Exception {
    Path cache = cache(contender);
    Files.createDirectories(cache.getParent());
    Files.deleteIfExists(cache);
    try (Server server = start(contender, List.of("-XX:AOTCacheOutput=" + cache))) {
      wrk.part(server.origin);
      server.terminate();
    }
    if (!Files.exists(cache)) {
      throw new IllegalStateException("the training run has not written " + cache);
    }
  }

  private Server start(Contender contender, List<String> options) throws Exception {
    Path target = folder.resolve(contender.module).resolve("target");
    List<String> jvm = new ArrayList<>(List.of("-Xms256m", "-Xmx256m"));
    jvm.add("-Dhelidon.serialFilter.pattern=*"); // so that the allocated bytes can be asked for
    if (scenario == Scenario.TLS) {
      jvm.add("-D" + KeyFiles.PROPERTY + "=" + keyFiles().folder());
    }
    jvm.addAll(options);
    // A jar, not the folder of the classes: a cache knows no folders.
    jvm.addAll(List.of("-cp", target + "/peers-" + contender.module + "-1.jar:" + target + "/lib/*"));
    jvm.add("dev.evalops.benchmarks.peers." + contender.main);
    return Server.start(serverCores, sockets, scenario == Scenario.TLS ? "https" : "http", jvm, contender.mode);
  }

  private KeyFiles keyFiles() {
    return new KeyFiles(folder.resolve("target/keys"));
  }

  private Path cache(Contender contender) {
    return folder.resolve("target/caches").resolve(contender.module + contender.mode + ".aot");
  }

  private static long allocated(MBeanServerConnection beans) throws Exception {
    return (Long) beans.getAttribute(new ObjectName("java.lang:type=Threading"), "TotalThreadAllocatedBytes");
  }
}
