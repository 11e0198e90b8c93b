package dev.evalops.hook.install;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Other programs, run for a bounded time. */
final class Programs {
  private static final Pattern VERSION = Pattern.compile("[0-9]+(\\.[0-9]+)+");
  private static final long SECONDS = 30;
  private static final int MAX_OUTPUT = 10_000;

  private Programs() {}

  /** What a program says on standard error and output. */
  record Said(int status, String output) {}

  /**
   * Runs a program that says little.
   *
   * @throws IOException if it does not end
   */
  static Said run(List<String> command, Map<String, String> environment, String input)
      throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().clear();
    builder.environment().putAll(environment);
    Process process = builder.start();
    try (OutputStream in = process.getOutputStream()) {
      in.write(input.getBytes(UTF_8));
    } catch (IOException e) {
      // It has ended without reading; its status says why.
    }
    try {
      if (!process.waitFor(SECONDS, TimeUnit.SECONDS)) {
        throw new IOException(command.get(0) + " does not end");
      }
      return new Said(
          process.exitValue(), new String(process.getInputStream().readNBytes(MAX_OUTPUT), UTF_8));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    } finally {
      process.destroyForcibly();
    }
  }

  /** The version that a program has by its own account. */
  static Optional<String> version(Path program, Map<String, String> environment)
      throws IOException {
    Matcher version = VERSION.matcher(
        run(List.of(program.toString(), "--version"), environment, "").output());
    return version.find() ? Optional.of(version.group()) : Optional.empty();
  }

  /** Whether a version is older than another. */
  static boolean isOlder(String version, String than) {
    String[] ours = version.split("\\.", -1);
    String[] theirs = than.split("\\.", -1);
    for (int i = 0; i < Math.max(ours.length, theirs.length); i++) {
      int difference = Long.compare(
          i < ours.length ? Long.parseLong(ours[i]) : 0,
          i < theirs.length ? Long.parseLong(theirs[i]) : 0);
      if (difference != 0) {
        return difference < 0;
      }
    }
    return false;
  }
}
