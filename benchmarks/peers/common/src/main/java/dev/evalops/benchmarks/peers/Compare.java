package dev.evalops.benchmarks.peers;

import com.sun.tools.attach.VirtualMachine;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/**
 * Starts each service as a process of its own, pinned to cores, loads it with {@code wrk} and prints a table:
 * rounds in turn, each with fresh processes, medians.
 */
public final class Compare {
  private record Contender(String name, String module, String main, String mode) {}

  private record Sample(
      double cpuMillis, double bytes, double rate, double p99, double ready, double startCpu, double rss) {}

  private static final List<Contender> CONTENDERS = List.of(
      new Contender("JDK's server alone, virtual threads", "jdk", "JdkAlone", "virtual"),
      new Contender("JDK's server alone, a pool", "jdk", "JdkAlone", "pool"),
      new Contender("this library", "runtime", "OnRuntime", "service"),
      new Contender("this library with `browserGuards`", "runtime", "OnRuntime", "guards"),
      new Contender("Javalin 7", "javalin", "OnJavalin", ""),
      new Contender("Helidon SE 4", "helidon", "OnHelidon", ""),
      new Contender("Spring Boot 4, idiomatic", "spring", "OnSpring", "idiomatic"),
      new Contender("Spring Boot 4, tuned", "spring", "OnSpring", "tuned"),
      new Contender("Spring Boot 4, bare", "spring", "OnSpring", "bare"),
      new Contender("this library in Spring Boot 4", "spring", "OnSpring", "runtime"),
      new Contender("this library in Jetty 12", "runtime", "OnRuntime", "jetty"),
      new Contender("this library in Tomcat 11", "runtime", "OnRuntime", "tomcat"));

  // Requests, not seconds: on a busy machine seconds compile nothing. On one core most of it is compiled after so many.
  private static final int WARM_UP_REQUESTS = 400_000;
  private static final int MEASURED_REQUESTS = 100_000;
  private static final int PART_SECONDS = 3;

  private static final long TICK_MILLIS = 10; // USER_HZ is 100 on every Linux that Java runs on.

  private final Path folder;
  private final String serverCores;
  private final String loadCores;

  private Compare(Path folder, String serverCores, String loadCores) {
    this.folder = folder;
    this.serverCores = serverCores;
    this.loadCores = loadCores;
  }

  /**
   * Runs the comparison.
   *
   * @param args the folder of the peers, the cores of the server, those of wrk, rounds, and a pattern for the names
   *     of the services
   */
  public static void main(String[] args) throws Exception {
    Compare compare = new Compare(Path.of(args[0]), args[1], args[2]);
    int rounds = Integer.parseInt(args[3]);
    Pattern which = Pattern.compile(args.length > 4 ? args[4] : "", Pattern.CASE_INSENSITIVE);
    Map<Contender, List<Sample>> samples = new LinkedHashMap<>();
    for (int round = 1; round <= rounds; round++) {
      for (Contender contender : CONTENDERS) {
        if (which.matcher(contender.name()).find()) {
          Sample sample = compare.measure(contender);
          samples.computeIfAbsent(contender, c -> new ArrayList<>()).add(sample);
          System.err.printf("round %d: %s: %s%n", round, contender.name(), sample);
        }
      }
    }
    print(samples);
  }

  private Sample measure(Contender contender) throws Exception {
    int port = freePort();
    long start = System.nanoTime();
    Process server = start(contender, port);
    try {
      awaitReady(server, port);
      double ready = (System.nanoTime() - start) / 1e6;
      double startCpu = cpuMillis(server.pid());
      // Connected before the load: the classes that this loads would undo what has been compiled.
      try (JMXConnector jmx = connect(server.pid())) {
        MBeanServerConnection beans = jmx.getMBeanServerConnection();
        allocated(beans);
        wrk(port, WARM_UP_REQUESTS);
        double cpuBefore = cpuMillis(server.pid());
        long bytesBefore = allocated(beans);
        Load load = wrk(port, MEASURED_REQUESTS);
        return new Sample(
            (cpuMillis(server.pid()) - cpuBefore) / load.requests() * 10_000,
            (allocated(beans) - bytesBefore) / load.requests(),
            load.rate(),
            load.p99(),
            ready,
            startCpu,
            residentMiB(server.pid()));
      }
    } finally {
      server.destroyForcibly().waitFor();
    }
  }

  private Process start(Contender contender, int port) throws IOException {
    String home = folder.resolve(contender.module()).resolve("target").toString();
    List<String> command = new ArrayList<>(List.of("taskset", "-c", serverCores));
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of(
        "-Xms256m",
        "-Xmx256m",
        "-Dhelidon.serialFilter.pattern=*", // so that the allocated bytes can be asked for
        "-cp",
        home + "/classes:" + home + "/lib/*",
        "dev.evalops.benchmarks.peers." + contender.main(),
        Integer.toString(port)));
    Stream.of(contender.mode()).filter(mode -> !mode.isEmpty()).forEach(command::add);
    return new ProcessBuilder(command)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .redirectError(ProcessBuilder.Redirect.DISCARD)
        .start();
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static void awaitReady(Process server, int port) throws Exception {
    long end = System.nanoTime() + 60_000_000_000L;
    while (!answers(port)) {
      if (!server.isAlive() || System.nanoTime() > end) {
        throw new IllegalStateException("does not answer: " + server.info().commandLine().orElse(""));
      }
      Thread.sleep(2);
    }
  }

  private static boolean answers(int port) {
    try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
      socket.getOutputStream()
          .write("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
              .getBytes(StandardCharsets.US_ASCII));
      InputStream in = socket.getInputStream();
      return new String(in.readNBytes(12), StandardCharsets.US_ASCII).equals("HTTP/1.1 200");
    } catch (IOException e) {
      return false;
    }
  }

  private static double cpuMillis(long pid) throws IOException {
    String stat = Files.readString(Path.of("/proc", Long.toString(pid), "stat"));
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
    return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * TICK_MILLIS;
  }

  private static double residentMiB(long pid) throws IOException {
    try (Stream<String> lines = Files.lines(Path.of("/proc", Long.toString(pid), "status"))) {
      String line = lines.filter(l -> l.startsWith("VmRSS:")).findFirst().orElseThrow();
      return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
    }
  }

  private static JMXConnector connect(long pid) throws Exception {
    VirtualMachine machine = VirtualMachine.attach(Long.toString(pid));
    try {
      return JMXConnectorFactory.connect(new JMXServiceURL(machine.startLocalManagementAgent()));
    } finally {
      machine.detach();
    }
  }

  private static long allocated(MBeanServerConnection beans) throws Exception {
    return (Long) beans.getAttribute(new ObjectName("java.lang:type=Threading"), "TotalThreadAllocatedBytes");
  }

  private record Load(double requests, double rate, double p99) {}

  private static final Pattern REQUESTS = Pattern.compile("([0-9]+) requests in");
  private static final Pattern RATE = Pattern.compile("Requests/sec:\\s+([0-9.]+)");
  private static final Pattern P99 = Pattern.compile("99%\\s+([0-9.]+)(us|ms|s)");

  /** Loads until there are so many requests; the percentile is the median of those of the parts. */
  private Load wrk(int port, int requests) throws Exception {
    List<Load> parts = new ArrayList<>();
    double done = 0;
    while (done < requests) {
      Load part = wrk(port);
      parts.add(part);
      done += part.requests();
    }
    double rate = parts.stream().mapToDouble(Load::rate).average().orElseThrow();
    return new Load(done, rate, at(parts, Load::p99, 0.5));
  }

  private Load wrk(int port) throws Exception {
    Process wrk = new ProcessBuilder(
            "taskset",
            "-c",
            loadCores,
            "wrk",
            "-t1",
            "-c32",
            "-d" + PART_SECONDS + "s",
            "--latency",
            "-H",
            "Authorization: Bearer secret-of-ann",
            "http://localhost:" + port + "/v1/notes/" + Notes.ID)
        .redirectErrorStream(true)
        .start();
    String output = new String(wrk.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    if (wrk.waitFor() != 0 || output.contains("Non-2xx")) {
      throw new IllegalStateException("wrk failed:\n" + output);
    }
    Matcher p99 = find(P99, output);
    double unit = Map.of("us", 0.001, "ms", 1.0, "s", 1000.0).get(p99.group(2));
    return new Load(
        Double.parseDouble(find(REQUESTS, output).group(1)),
        Double.parseDouble(find(RATE, output).group(1)),
        Double.parseDouble(p99.group(1)) * unit);
  }

  private static Matcher find(Pattern pattern, String output) {
    Matcher matcher = pattern.matcher(output);
    if (!matcher.find()) {
      throw new IllegalStateException("wrk said:\n" + output);
    }
    return matcher;
  }

  private static void print(Map<Contender, List<Sample>> samples) {
    System.out.println(
        "| | CPU of 10 000 requests | bytes per request | requests/s | p99 | ready after | CPU until ready | RSS |");
    System.out.println("| --- | --- | --- | --- | --- | --- | --- | --- |");
    samples.forEach((contender, of) -> System.out.printf(
        Locale.ROOT,
        "| %s | %.0f ms (%.0f–%.0f) | %,.0f | %,.0f | %.1f ms | %.0f ms | %.0f ms | %.0f MiB |%n",
        contender.name(),
        at(of, Sample::cpuMillis, 0.5),
        at(of, Sample::cpuMillis, 0),
        at(of, Sample::cpuMillis, 1),
        at(of, Sample::bytes, 0.5),
        at(of, Sample::rate, 0.5),
        at(of, Sample::p99, 0.5),
        at(of, Sample::ready, 0.5),
        at(of, Sample::startCpu, 0.5),
        at(of, Sample::rss, 0.5)));
  }

  private static <T> double at(List<T> samples, ToDoubleFunction<T> value, double quantile) {
    double[] sorted = samples.stream().mapToDouble(value).sorted().toArray();
    return sorted[(int) Math.round(quantile * (sorted.length - 1))];
  }
}
