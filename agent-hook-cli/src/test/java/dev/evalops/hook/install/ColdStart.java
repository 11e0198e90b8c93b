package dev.evalops.hook.install;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Launched;
import dev.evalops.hook.Resident;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.ProcessBuilder.Redirect;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * How long a tool call waits for the hook, and what it costs: whole processes, in turn, against a service in this
 * process that allows. The ratios are to an empty JVM of the same version. Linux.
 */
final class ColdStart {
  private static final Path BUILT = Path.of("target/evalops-agent-hook");

  /** What the shortest Java program does. */
  static final class Empty {
    private Empty() {}

    /** Does nothing. */
    public static void main(String[] args) {}
  }

  /** So many calls make the start-up caches and fill those of the system. */
  private static final int WARM_UP = 5;

  /** So many calls has the service answered before: it is there all day. */
  private static final int WARM_UP_OF_SERVICE = 200;

  /** What Linux counts the processor time of processes in. */
  private static final double TICK_MILLIS = 10;

  private ColdStart() {}

  /**
   * Prints the medians.
   *
   * @param args the number of rounds
   */
  public static void main(String[] args) throws Exception {
    int rounds = Integer.parseInt(args[0]);
    Path work = Files.createTempDirectory("cold-start");
    try (Training service = Training.start(work)) {
      System.out.printf(
          "%d rounds: elapsed ms, median, smallest to largest in brackets; "
              + "processor ms, mean, with the service's own%n",
          rounds);
      for (Path javaHome : Distribution.javaHomes()) {
        measure(work, service, javaHome, rounds);
      }
    } finally {
      try (Stream<Path> files = Files.walk(work)) {
        files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
      }
    }
  }

  private static void measure(Path work, Training service, Path javaHome, int rounds)
      throws Exception {
    String major = String.valueOf(Distribution.major(javaHome));
    Distribution hook = Distribution.copy(BUILT, work.resolve("java-" + major));
    hook.configure("java=" + javaHome + "/bin/java\n");
    Distribution nothing = Distribution.copy(BUILT, work.resolve("nothing-" + major));
    nothing.fakeJava(major + ".0.1", "exit 42");
    Files.createDirectory(hook.lib().resolve("cache"));
    String check = "governance-check";
    Map<String, List<String>> commands = new LinkedHashMap<>();
    commands.put(
        "empty JVM",
        List.of(javaHome + "/bin/java", "-cp", "target/test-classes", Empty.class.getName()));
    commands.put("launcher, no JVM", List.of(nothing.launcher().toString(), check));
    commands.put("hook, http", List.of(hook.launcher().toString(), check));
    commands.put("hook, mTLS", List.of(hook.launcher().toString(), check));
    Distribution served = Distribution.copy(BUILT, work.resolve("served-" + major));
    Path socket = Files.createDirectory(work.resolve("run-" + major)).resolve("socket");
    served.configure("java=" + javaHome + "/bin/java\nconfig=" + work.resolve("mtls.properties")
        + "\nservice=" + socket + "\n");
    commands.put("service, mTLS", List.of(served.launcher().toString(), check));

    Map<String, double[]> times = new LinkedHashMap<>();
    Map<String, Double> processor = new LinkedHashMap<>();
    commands.keySet().forEach(name -> times.put(name, new double[rounds]));
    try (Resident resident = Resident.start(served, socket, work.resolve("state"))) {
      for (int call = 0; call < WARM_UP_OF_SERVICE; call++) {
        time(commands.get("service, mTLS"), service.environment(true));
      }
      for (int round = -WARM_UP; round < rounds; round++) {
        for (Map.Entry<String, List<String>> command : commands.entrySet()) {
          long before = ticks(resident);
          double time =
              time(command.getValue(), service.environment(command.getKey().contains("mTLS")));
          if (round >= 0) {
            times.get(command.getKey())[round] = time;
            processor.merge(
                command.getKey(), TICK_MILLIS * (ticks(resident) - before) / rounds, Double::sum);
          }
        }
      }
    }
    System.out.printf("%nJava %s (%s)%n", major, javaHome);
    times.values().forEach(Arrays::sort);
    double empty = median(times.get("empty JVM"));
    double emptyProcessor = processor.get("empty JVM");
    times.forEach((name, all) -> System.out.printf(
        "  %-18s %7.1f  [%.1f to %.1f]  %.2f x  %7.1f  %.2f x%n",
        name,
        median(all),
        all[0],
        all[all.length - 1],
        median(all) / empty,
        processor.get(name),
        processor.get(name) / emptyProcessor));
    try (Stream<Path> caches = Files.list(hook.lib().resolve("cache"))) {
      for (Path cache : caches.toList()) {
        System.out.printf("  start-up cache     %7.1f MiB%n", Files.size(cache) / 1048576.0);
      }
    }
  }

  private static double time(List<String> command, Map<String, String> environment)
      throws Exception {
    ProcessBuilder builder =
        new ProcessBuilder(command).redirectOutput(Redirect.DISCARD).redirectError(Redirect.PIPE);
    builder.environment().putAll(environment);
    long start = System.nanoTime();
    Process process = builder.start();
    try (OutputStream in = process.getOutputStream()) {
      in.write(Launched.EVENT.getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      // The empty one does not read.
      if (process.waitFor() != 0) {
        throw e;
      }
    }
    if (!process.waitFor(60, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new AssertionError(command + ": "
          + new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8));
    }
    return (System.nanoTime() - start) / 1e6;
  }

  /** Of all commands that have ended, and of the service. One says little, the sum of many does. */
  private static long ticks(Resident service) throws IOException {
    long[] own = processorTicks(ProcessHandle.current().pid());
    long[] ofService = processorTicks(service.process().pid());
    return own[1] + ofService[0] + ofService[1];
  }

  /** Of a process, and of its children that have ended: proc(5), fields 14 to 17. */
  private static long[] processorTicks(long pid) throws IOException {
    String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ", -1);
    return new long[] {
      Long.parseLong(fields[11]) + Long.parseLong(fields[12]),
      Long.parseLong(fields[13]) + Long.parseLong(fields[14])
    };
  }

  private static double median(double[] sorted) {
    int middle = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}
