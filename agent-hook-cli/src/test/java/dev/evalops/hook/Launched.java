package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** A hook that was started as a host starts it: with pipes, which are read until nobody holds them any more. */
public final class Launched implements AutoCloseable {
  public static final String EVENT =
      "{\"session_id\":\"s\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\","
          + "\"tool_input\":{\"command\":\"ls\"}}";
  private static final String DENY_LINE =
      "\\{\"hookSpecificOutput\":\\{\"hookEventName\":\"PreToolUse\","
          + "\"permissionDecision\":\"deny\",\"permissionDecisionReason\":\"[^\\n]+\"}}\\n";
  private static final long SECONDS = 150;

  private final Process process;
  private final CompletableFuture<String> out;
  private final CompletableFuture<String> err;

  private Launched(Process process) {
    this.process = process;
    out = CompletableFuture.supplyAsync(() -> read(process.getInputStream()), Launched::run);
    err = CompletableFuture.supplyAsync(() -> read(process.getErrorStream()), Launched::run);
  }

  public static Launched start(Path folder, Map<String, String> environment, String... command)
      throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile());
    builder.environment().clear();
    builder.environment().put("PATH", "/usr/bin:/bin");
    builder.environment().putAll(environment);
    return new Launched(builder.start());
  }

  /**
   * In a thread of its own: the common pool may have but one, and a pipe that somebody else still holds would keep it.
   */
  static void run(Runnable task) {
    Thread thread = new Thread(task, "pipe");
    thread.setDaemon(true);
    thread.start();
  }

  private static String read(InputStream in) {
    try (in) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  public Process process() {
    return process;
  }

  public Launched write(String text) {
    try {
      process.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
      process.getOutputStream().flush();
    } catch (IOException e) {
      // It has ended before; its result says how.
    }
    return this;
  }

  public void signal(String name) throws Exception {
    new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid()))
        .start()
        .waitFor();
  }

  /** As a host does that has sent the event. */
  public Result end() throws Exception {
    try {
      process.getOutputStream().close();
    } catch (IOException e) {
      // As above.
    }
    return result();
  }

  public Result result() throws Exception {
    if (!process.waitFor(SECONDS, TimeUnit.SECONDS)) {
      throw new AssertionError("the hook does not end");
    }
    return new Result(
        process.exitValue(),
        out.get(SECONDS, TimeUnit.SECONDS),
        err.get(SECONDS, TimeUnit.SECONDS));
  }

  @Override
  public void close() {
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
  }

  /** What a host sees. */
  public record Result(int status, String out, String err) {
    public void assertAllowed() {
      assertThat(this).isEqualTo(new Result(0, "", err));
    }

    public Result assertDenied() {
      assertThat(status).as("status; %s", err).isEqualTo(2);
      assertThat(err).isNotBlank();
      assertThat(out).matches("|" + DENY_LINE);
      return this;
    }

    public void assertDenied(String reason) {
      assertDenied();
      assertThat(err).contains(reason);
    }
  }
}
