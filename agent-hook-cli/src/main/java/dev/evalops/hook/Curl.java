package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.evalops.hook.HttpExchange.FailedException;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * The system's curl as transport for https. Its TLS is there in a tenth of the time in which Java has loaded and
 * interpreted its own; the answer is read by our own parser, and only of a curl that ends well. Where curl cannot do
 * it, Java's TLS does.
 *
 * <p>Used on Linux with a CA file of ours: a curl of macOS also trusts the system's authorities, whatever it is told.
 */
final class Curl {
  private static final Path PROGRAM = Path.of("/usr/bin/curl");
  private static final int WRITABLE_BY_OTHERS = 022;

  /** Older versions take no longer line. */
  private static final int MAX_BODY = 48 * 1024;

  private final Settings.Tls files;

  private Curl(Settings.Tls files) {
    this.files = files;
  }

  /** Null where it cannot be used, or must not be. */
  static @Nullable Curl of(Settings settings) {
    Settings.Tls files = settings.tls();
    boolean usable = settings.usesTls()
        && files.ca() != null
        && files.serverName() == null // curl has no word for it
        && (files.certificate() == null) == (files.key() == null)
        && isPlain(files.ca())
        && isPlain(files.certificate())
        && isPlain(files.key())
        && System.getProperty("os.name").equals("Linux")
        && isRoots();
    return usable ? new Curl(files) : null;
  }

  /** A path in which neither curl nor its configuration sees more than a path. */
  private static boolean isPlain(@Nullable String path) {
    for (int i = 0; path != null && i < path.length(); i++) {
      char c = path.charAt(i);
      if (c <= ' ' || c > '~' || c == ':' || c == '\\' || c == '"') {
        return false;
      }
    }
    return path == null || path.startsWith("/");
  }

  private static boolean isRoots() {
    try {
      Map<String, Object> program = Files.readAttributes(PROGRAM, "unix:uid,mode,isRegularFile");
      return Boolean.TRUE.equals(program.get("isRegularFile"))
          && Integer.valueOf(0).equals(program.get("uid"))
          && program.get("mode") instanceof Integer mode
          && (mode & WRITABLE_BY_OTHERS) == 0;
    } catch (IOException | UnsupportedOperationException e) {
      return false;
    }
  }

  /**
   * Sends a request.
   *
   * @param head its fields, each with its line end
   * @return null if curl cannot do it, and has sent nothing
   */
  HttpExchange.@Nullable Answer send(
      String url, String head, byte[] body, @Nullable String token, Duration timeout)
      throws FailedException {
    if (body.length > MAX_BODY) {
      return null;
    }
    long end = System.nanoTime() + timeout.toNanos();
    Process process;
    try {
      ProcessBuilder builder = new ProcessBuilder(
              PROGRAM.toString(),
              "-q", // no configuration of the user's
              "--config",
              "-",
              "--silent",
              "--include",
              "--raw",
              "--http1.1",
              "--proto",
              "=https",
              "--tlsv1.3",
              "--noproxy",
              "*",
              "--globoff",
              "--path-as-is",
              "--max-time",
              String.valueOf(timeout.toMillis() / 1000.0))
          .directory(new File("/"))
          .redirectError(ProcessBuilder.Redirect.DISCARD);
      builder.environment().clear();
      process = builder.start();
    } catch (IOException e) {
      return null;
    }
    try {
      try (OutputStream config = process.getOutputStream()) {
        config.write(configuration(url, head, body, token).getBytes(UTF_8));
      } catch (IOException e) {
        // It has ended; its status says why.
      }
      return answer(process, end);
    } finally {
      process.destroyForcibly();
    }
  }

  private static HttpExchange.@Nullable Answer answer(Process process, long end)
      throws FailedException {
    HttpExchange.Answer answer = null;
    try {
      answer = HttpExchange.read(process.getInputStream(), end - System.nanoTime());
      if (answer.status != 200) {
        return answer; // a refusal, which may be endless
      }
    } catch (FailedException e) {
      if (!HttpExchange.CLOSED.equals(e.getMessage())) {
        throw e;
      }
    }
    switch (status(process, end)) {
      case 0 -> {
        if (answer == null) {
          throw new FailedException(HttpExchange.CLOSED);
        }
        return answer;
      }
      case 6 -> throw new FailedException("the host's name cannot be resolved");
      case 7 -> throw new FailedException("connection refused");
      // It may have got as far as the request.
      case 8 -> throw new FailedException("the answer is no HTTP");
      case 18, 52, 55, 56 -> throw new FailedException(HttpExchange.CLOSED);
      case 28 -> throw new FailedException("no whole answer in time");
      default -> {
        return null;
      }
    }
  }

  private static int status(Process process, long end) throws FailedException {
    try {
      if (process.waitFor(end - System.nanoTime(), TimeUnit.NANOSECONDS)) {
        return process.exitValue();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    throw new FailedException("no whole answer in time");
  }

  private String configuration(String url, String head, byte[] body, @Nullable String token) {
    StringBuilder config = new StringBuilder(body.length + 1024);
    option("url", url, config);
    option("cacert", String.valueOf(files.ca()), config);
    // Else those of the system are trusted as well.
    option("capath", "/dev/null", config);
    if (files.certificate() != null && files.key() != null) {
      option("cert", files.certificate(), config);
      option("key", files.key(), config);
      // A key that needs one fails, and nobody is asked for it at the terminal.
      option("pass", "none", config);
    }
    for (String line : head.split("\r\n", -1)) {
      if (!line.isEmpty()) {
        option("header", line, config);
      }
    }
    option("header", "Expect:", config);
    if (token != null) {
      option("header", "Authorization: Bearer " + token, config);
    }
    option("data-binary", new String(body, UTF_8), config);
    return config.toString();
  }

  private static void option(String name, String value, StringBuilder config) {
    config.append(name).append(" = \"");
    for (int i = 0; i < value.length(); i++) {
      char c = value.charAt(i);
      if (c == '"' || c == '\\') {
        config.append('\\');
      }
      config.append(c);
    }
    config.append("\"\n");
  }
}
