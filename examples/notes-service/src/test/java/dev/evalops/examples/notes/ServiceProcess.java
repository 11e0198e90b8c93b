package dev.evalops.examples.notes;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The example service as a process of its own, with its log at hand. */
final class ServiceProcess implements AutoCloseable {
  private static final Pattern UP = Pattern.compile("notes is up port=\"?(\\d+)");

  private final Process process;
  private final Thread reader;
  private final List<String> log = new ArrayList<>();
  private boolean ended;

  private ServiceProcess(Process process, Consumer<String> onLine) {
    this.process = process;
    this.reader = Thread.ofVirtual().name("service-log").start(() -> read(onLine));
  }

  /** Starts the service's main with these settings in the environment and hands on each line that it logs. */
  static ServiceProcess start(Map<String, String> environment, Consumer<String> onLine)
      throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of(System.getProperty("test.jvm", "").split(" ")));
    command.addAll(List.of(
        "-Xmx256m", "-cp", System.getProperty("java.class.path"), NotesService.class.getName()));
    command.removeIf(String::isEmpty);
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().putAll(environment);
    return new ServiceProcess(builder.start(), onLine);
  }

  long pid() {
    return process.pid();
  }

  /** Waits for a log line, past ones included. */
  String awaitLine(Predicate<String> wanted, Duration atMost)
      throws InterruptedException, TimeoutException {
    return awaitLines(wanted, 1, atMost);
  }

  /** Waits for as many log lines, past ones included, and gives the last of them. */
  String awaitLines(Predicate<String> wanted, int times, Duration atMost)
      throws InterruptedException, TimeoutException {
    int found = 0;
    long deadline = System.nanoTime() + atMost.toNanos();
    int seen = 0;
    synchronized (log) {
      while (true) {
        for (; seen < log.size(); seen++) {
          if (wanted.test(log.get(seen)) && ++found == times) {
            return log.get(seen);
          }
        }
        long left = deadline - System.nanoTime();
        if (ended || left <= 0) {
          throw new TimeoutException("the service "
              + (ended ? "ended" : "did not say it in " + atMost) + "; its log:\n" + log());
        }
        TimeUnit.NANOSECONDS.timedWait(log, left);
      }
    }
  }

  /** The port that the service listens on, once it is up. */
  int awaitPort(Duration atMost) throws InterruptedException, TimeoutException {
    Matcher up = UP.matcher(awaitLine(line -> UP.matcher(line).find(), atMost));
    if (!up.find()) {
      throw new IllegalStateException();
    }
    return Integer.parseInt(up.group(1));
  }

  /** Asks the service to stop, as a platform does. */
  void terminate() {
    // Process.destroy would also close the log.
    process.toHandle().destroy();
  }

  /** As the kernel does when memory is short. */
  void kill() {
    process.toHandle().destroyForcibly();
  }

  /** The exit status; empty when the process still runs after this time. */
  Optional<Integer> awaitExit(Duration atMost) throws InterruptedException {
    if (!process.waitFor(atMost.toMillis(), TimeUnit.MILLISECONDS)) {
      return Optional.empty();
    }
    reader.join();
    return Optional.of(process.exitValue());
  }

  String log() {
    synchronized (log) {
      return String.join("\n", log);
    }
  }

  private void read(Consumer<String> onLine) {
    try (BufferedReader lines = process.inputReader()) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        synchronized (log) {
          log.add(line);
          log.notifyAll();
        }
        onLine.accept(line);
      }
    } catch (IOException e) {
      // the process is gone; what it said is in the log
    } finally {
      synchronized (log) {
        ended = true;
        log.notifyAll();
      }
    }
  }

  @Override
  public void close() {
    process.destroyForcibly();
  }
}
