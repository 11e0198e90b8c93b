package dev.evalops.runtime.health;

import static org.awaitility.Awaitility.await;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.Stream;

/** Server processes that are stopped, so that their sockets are open and nobody answers, until they are resumed. */
public final class Paused implements AutoCloseable {
  private final List<ProcessHandle> processes;

  private Paused(List<ProcessHandle> processes) throws IOException, InterruptedException {
    this.processes = processes;
    if (processes.isEmpty()) {
      throw new IllegalStateException("no such process");
    }
    signal("STOP");
    // A thread on another processor may still answer when kill has returned.
    for (ProcessHandle process : processes) {
      await().until(() -> !process.isAlive() || state(process).startsWith("T"));
    }
  }

  private static String state(ProcessHandle process) throws IOException, InterruptedException {
    Process ps =
        new ProcessBuilder("ps", "-o", "state=", "-p", Long.toString(process.pid())).start();
    String state = new String(ps.getInputStream().readAllBytes(), StandardCharsets.US_ASCII);
    ps.waitFor();
    return state.strip();
  }

  /** Pauses a process and those that it started. */
  public static Paused tree(long pid) throws IOException, InterruptedException {
    ProcessHandle root = ProcessHandle.of(pid).orElseThrow();
    return new Paused(Stream.concat(Stream.of(root), root.descendants()).toList());
  }

  /** Pauses the process that this JVM started with this argument. */
  public static Paused startedWith(String argument) throws IOException, InterruptedException {
    return new Paused(ProcessHandle.current()
        .descendants()
        .filter(process ->
            process.info().arguments().map(List::of).orElse(List.of()).contains(argument))
        .toList());
  }

  private void signal(String signal) throws IOException, InterruptedException {
    Stream<String> pids = processes.stream()
        .filter(ProcessHandle::isAlive)
        .map(process -> Long.toString(process.pid()));
    List<String> command = Stream.concat(Stream.of("kill", "-" + signal), pids).toList();
    if (new ProcessBuilder(command).inheritIO().start().waitFor() != 0) {
      throw new IllegalStateException("cannot send " + signal + " to " + processes);
    }
  }

  /** Resumes those that are still there. */
  @Override
  public void close() throws IOException, InterruptedException {
    if (processes.stream().anyMatch(ProcessHandle::isAlive)) {
      signal("CONT");
    }
  }
}
