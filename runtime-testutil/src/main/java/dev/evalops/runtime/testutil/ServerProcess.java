package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A server that runs as a child process: its output goes to a file in its own temporary directory, and it ends with
 * this JVM however that ends. The second is the work of a small shell that waits for the end of its input, which is
 * this JVM; unlike a shutdown hook it also sees a {@code kill -9}, and it acts after every hook of the program has run.
 */
final class ServerProcess implements Backend {
  private static final Logger LOG = LoggerFactory.getLogger(ServerProcess.class);
  private static final Duration START_TIMEOUT = Duration.ofSeconds(60);
  private static final Duration STOP_TIMEOUT = Duration.ofSeconds(5);
  private static final long POLL_MILLIS = 5;
  private static final int SHOWN_OUTPUT = 4000;
  // Below the range of the local ports of outgoing connections: a client that keeps trying the
  // port of a server that is down can get that very port as its own, connect to itself, and keep
  // the server out.
  private static final int FIRST_PORT = 20_000;
  private static final int LAST_PORT = 31_999;
  private static final int PORT_ATTEMPTS = 50;
  private static final Duration PORT_PATIENCE = Duration.ofSeconds(10);

  // Without it the garbage collector may close the input of a watchdog whose server is in use.
  private static final Set<ServerProcess> RUNNING = ConcurrentHashMap.newKeySet();

  // $1 signal, $2 directory; each line that it reads has the ids of the processes to end, or is
  // empty.
  private static final String WATCHDOG = """
      trap '' INT TERM HUP
      pids=
      while read -r line; do pids=$line; done
      if [ -n "$pids" ]; then
        kill -"$1" $pids
        kill -CONT $pids
        sleep 1
        kill -9 $pids
      fi
      rm -rf "$2"
      """;

  private final ReentrantLock lock = new ReentrantLock();
  private final Command command;
  private final Path directory;
  private @Nullable Process process;
  private @Nullable Process watchdog;
  private List<ProcessHandle> paused = List.of();
  private boolean closed;

  /**
   * What to run.
   *
   * @param name for messages
   * @param setup the program and its arguments that make the server's files, run once before; empty for none
   * @param line the program and its arguments
   * @param stopSignal the signal by which it stops at once and leaves nothing behind
   * @param probe tells that it is ready
   */
  record Command(
      String name, List<String> setup, List<String> line, String stopSignal, Probe probe) {
    Command {
      setup = List.copyOf(setup);
      line = List.copyOf(line);
    }
  }

  /** Tells whether a server answers. */
  interface Probe {
    /** Returns whether this very process is ready; an {@link IOException} means not yet. */
    boolean isReady(Process process) throws IOException;
  }

  /** The port was taken by somebody else first. */
  static final class PortTakenException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    PortTakenException(String message) {
      super(message);
    }
  }

  private ServerProcess(Command command, Path directory) {
    this.command = command;
    this.directory = directory;
  }

  /**
   * Starts a server and waits until it is ready.
   *
   * @param directory its own directory, deleted in the end, also when the start fails
   */
  static ServerProcess start(Command command, Path directory) {
    ServerProcess server = new ServerProcess(command, directory);
    try {
      server.begin();
      return server;
    } catch (RuntimeException e) {
      server.close();
      throw e;
    }
  }

  private void begin() {
    lock.lock();
    try {
      RUNNING.add(this);
      watchdog = new ProcessBuilder(
              "/bin/sh", "-c", WATCHDOG, "watchdog", command.stopSignal(), directory.toString())
          .redirectOutput(ProcessBuilder.Redirect.DISCARD)
          .redirectError(ProcessBuilder.Redirect.DISCARD)
          .start();
      if (!command.setup().isEmpty()) {
        int exitCode = run(command.setup()).onExit().join().exitValue();
        if (exitCode != 0) {
          throw failure("could not be set up, exit code " + exitCode);
        }
      }
      launch();
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot start the " + command.name() + ": " + e.getMessage(), e);
    } finally {
      lock.unlock();
    }
  }

  /** Calls {@code starter} with a free port, and with another when somebody else was quicker. */
  static <T> T onFreePort(IntFunction<T> starter) {
    for (int attempt = 1; attempt < PORT_ATTEMPTS; attempt++) {
      int port = ThreadLocalRandom.current().nextInt(FIRST_PORT, LAST_PORT + 1);
      if (isFree(port)) {
        try {
          return starter.apply(port);
        } catch (PortTakenException e) {
          LOG.atDebug().addKeyValue("port", port).log("port taken in the meantime; trying another");
        }
      }
    }
    return starter.apply(ThreadLocalRandom.current().nextInt(FIRST_PORT, LAST_PORT + 1));
  }

  /** Ports that are free at this moment, for a starter that needs more than that of {@link #onFreePort}. */
  static int[] freePorts(int count) {
    return ThreadLocalRandom.current()
        .ints(FIRST_PORT, LAST_PORT + 1)
        .distinct()
        .filter(ServerProcess::isFree)
        .limit(count)
        .toArray();
  }

  private static boolean isFree(int port) {
    try (ServerSocket socket = new ServerSocket()) {
      socket.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  /** A new temporary directory, for {@link #start}. */
  static Path newDirectory(String server) {
    try {
      return Files.createTempDirectory(
          "testutil-" + ProcessHandle.current().pid() + "-" + server + "-");
    } catch (IOException e) {
      throw new UncheckedIOException("cannot make a temporary directory: " + e.getMessage(), e);
    }
  }

  @Override
  public void restart() {
    lock.lock();
    try {
      if (closed) {
        throw new IllegalStateException("the " + command.name() + " is closed; start a new one");
      }
      if (process != null && process.isAlive()) {
        throw new IllegalStateException(
            "the " + command.name() + " is running; kill() it before restart()");
      }
      relaunch();
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot start the " + command.name() + ": " + e.getMessage(), e);
    } finally {
      lock.unlock();
    }
  }

  /** Another process that looks for a free port may have this one for a moment. */
  private void relaunch() throws IOException {
    long begin = System.nanoTime();
    while (true) {
      try {
        launch();
        return;
      } catch (PortTakenException e) {
        if (System.nanoTime() - begin > PORT_PATIENCE.toNanos()) {
          throw e;
        }
      }
    }
  }

  private void launch() throws IOException {
    long begin = System.nanoTime();
    Process started = run(command.line());
    try {
      awaitReady(started, begin);
    } catch (RuntimeException e) {
      stop("KILL");
      throw e;
    }
    LOG.atDebug()
        .addKeyValue("server", command.name())
        .addKeyValue("pid", started.pid())
        .addKeyValue("took_ms", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begin))
        .log("test server started");
  }

  private Process run(List<String> program) throws IOException {
    List<String> line = new ArrayList<>(program);
    // A session of its own: Ctrl-C in the terminal stops the program, and only then its servers.
    Host.current().program("setsid").ifPresent(setsid -> line.add(0, setsid.toString()));
    ProcessBuilder builder = new ProcessBuilder(line)
        .redirectErrorStream(true)
        .redirectOutput(log().toFile())
        .directory(directory.toFile());
    builder.environment().putAll(Map.of("LC_ALL", "C", "TZ", "UTC"));
    Process started = builder.start();
    started.getOutputStream().close();
    process = started;
    tellWatchdog(Long.toString(started.pid()));
    return started;
  }

  private void tellWatchdog(String processId) throws IOException {
    if (watchdog != null) {
      watchdog.getOutputStream().write((processId + "\n").getBytes(StandardCharsets.US_ASCII));
      watchdog.getOutputStream().flush();
    }
  }

  private void awaitReady(Process started, long begin) throws IOException {
    while (!ready(started)) {
      if (!started.isAlive()) {
        throw failure("ended at once with exit code " + started.exitValue());
      }
      if (System.nanoTime() - begin > START_TIMEOUT.toNanos()) {
        throw failure("was not ready after " + START_TIMEOUT.toSeconds() + " s");
      }
      try {
        Thread.sleep(POLL_MILLIS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IllegalStateException(
            "interrupted while the " + command.name() + " was starting", e);
      }
    }
  }

  private IllegalStateException failure(String what) throws IOException {
    byte[] output = Files.readAllBytes(log());
    int from = Math.max(0, output.length - SHOWN_OUTPUT);
    String end = new String(output, from, output.length - from, StandardCharsets.UTF_8).strip();
    String message = "the " + command.name() + " " + what + ":\n" + end;
    return end.contains("ddress already in use")
        ? new PortTakenException(message)
        : new IllegalStateException(message);
  }

  private Path log() {
    return directory.resolve("log");
  }

  private boolean ready(Process started) {
    try {
      return command.probe().isReady(started);
    } catch (IOException e) {
      return false;
    }
  }

  @Override
  public void kill() {
    lock.lock();
    try {
      stop("KILL");
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void pause() {
    lock.lock();
    try {
      Process running = process;
      if (running == null || !running.isAlive()) {
        throw new IllegalStateException("the " + command.name() + " is not running");
      }
      signal("STOP", List.of(running.toHandle())); // first, so that it starts no more of them
      List<ProcessHandle> all = new ArrayList<>(List.of(running.toHandle()));
      running.descendants().forEach(all::add);
      paused = all;
      tellWatchdog(ids(all));
      signal("STOP", all);
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot pause the " + command.name() + ": " + e.getMessage(), e);
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void resume() {
    lock.lock();
    try {
      Process running = process;
      if (running != null && !paused.isEmpty()) {
        signal("CONT", paused);
        paused = List.of();
        tellWatchdog(Long.toString(running.pid()));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot resume the " + command.name() + ": " + e.getMessage(), e);
    } finally {
      lock.unlock();
    }
  }

  private static String ids(List<ProcessHandle> processes) {
    return processes.stream()
        .map(each -> Long.toString(each.pid()))
        .collect(Collectors.joining(" "));
  }

  @Override
  public void close() {
    lock.lock();
    try {
      if (!closed) {
        closed = true;
        stop(command.stopSignal());
        RUNNING.remove(this);
        dismissWatchdog();
      }
    } finally {
      lock.unlock();
    }
  }

  // It deletes the directory when its input ends.
  private void dismissWatchdog() {
    Process dismissed = watchdog;
    if (dismissed == null) {
      return;
    }
    try {
      dismissed.getOutputStream().close();
    } catch (IOException e) {
      LOG.atDebug().setCause(e).log("somebody ended the watchdog");
    }
    await(() -> !dismissed.isAlive(), deadline());
  }

  private void stop(String signal) {
    Process running = process;
    process = null;
    if (running == null) {
      return;
    }
    List<ProcessHandle> children = running.descendants().toList();
    if (!signal.equals("KILL")) {
      signal(signal, List.of(running.toHandle()));
      signal("CONT", paused);
      await(() -> !running.isAlive(), deadline());
    }
    paused = List.of();
    running.destroyForcibly();
    children.forEach(ProcessHandle::destroyForcibly);
    await(
        () -> !running.isAlive() && children.stream().allMatch(ServerProcess::hasEnded),
        deadline());
    try {
      tellWatchdog("");
    } catch (IOException e) {
      LOG.atDebug().setCause(e).log("somebody ended the watchdog");
    }
  }

  private static void signal(String signal, List<ProcessHandle> processes) {
    if (processes.isEmpty()) {
      return;
    }
    try {
      Process kill = new ProcessBuilder(
              "/bin/sh", "-c", "kill -$1 $2", "kill", signal, ids(processes))
          .redirectErrorStream(true)
          .redirectOutput(ProcessBuilder.Redirect.DISCARD)
          .start();
      await(() -> !kill.isAlive(), deadline());
    } catch (IOException e) {
      LOG.atDebug().setCause(e).log("cannot send a signal; the server is killed");
    }
  }

  private static long deadline() {
    return System.nanoTime() + STOP_TIMEOUT.toNanos();
  }

  // Not cut short by an interrupt: whoever stops a server relies on its port being free.
  private static void await(BooleanSupplier end, long deadline) {
    while (!end.getAsBoolean() && System.nanoTime() - deadline < 0) {
      LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(1));
    }
  }

  private static boolean hasEnded(ProcessHandle process) {
    return !process.isAlive() || isZombie(process);
  }

  // In a container there may be nobody who takes the orphans of a killed server away.
  private static boolean isZombie(ProcessHandle process) {
    try {
      return Files.readString(Path.of("/proc", Long.toString(process.pid()), "stat"))
          .contains(") Z ");
    } catch (IOException e) {
      return false;
    }
  }
}
