package dev.evalops.runtime.testutil;

import java.io.File;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/**
 * What the machine has to offer.
 *
 * @param environment the variables, with {@code PATH}
 * @param platform system and processor as embedded-redis names them, such as {@code linux-amd64} or {@code
 *     darwin-arm64}
 * @param docker tells whether Testcontainers is on the class path and Docker answers
 */
record Host(Map<String, String> environment, String platform, BooleanSupplier docker) {
  static Host current() {
    String system =
        System.getProperty("os.name").toLowerCase(Locale.ROOT).replaceFirst("mac.*", "darwin");
    String processor =
        System.getProperty("os.arch").replace("x86_64", "amd64").replace("aarch64", "arm64");
    return new Host(System.getenv(), system + "-" + processor, Host::hasDocker);
  }

  // DockerServer cannot even be loaded without Testcontainers.
  private static boolean hasDocker() {
    try {
      Class.forName("org.testcontainers.DockerClientFactory");
      return DockerServer.isPossible();
    } catch (ClassNotFoundException e) {
      return false;
    }
  }

  /** The server that a variable names, if it is set. */
  Optional<URI> named(String variable) {
    String value = environment.getOrDefault(variable, "").strip();
    if (value.isEmpty()) {
      return Optional.empty();
    }
    try {
      URI uri = new URI(value);
      if (uri.getHost() != null) {
        return Optional.of(uri);
      }
    } catch (URISyntaxException e) {
      // Said below, without the cause: its message holds the value, and that a password.
    }
    throw new IllegalArgumentException(
        variable
            + " is no URL of one server, scheme://user:password@host:port; percent-encode special characters");
  }

  /** Looks a program up on the path, and where Debian puts servers, which only root has on its path. */
  Optional<Path> program(String name) {
    String path = environment.getOrDefault("PATH", "");
    return Pattern.compile(Pattern.quote(File.pathSeparator))
        .splitAsStream(path.isEmpty() ? "" : path + File.pathSeparator + "/usr/sbin")
        .filter(folder -> !folder.isEmpty())
        .map(folder -> Path.of(folder, name))
        .filter(file -> Files.isRegularFile(file) && Files.isExecutable(file))
        .findFirst();
  }

  /** The last resort: a container, if there is Docker, else the failure that says what to install. */
  Backend container(String program, String variable, Supplier<Backend> container) {
    if (docker.getAsBoolean()) {
      return container.get();
    }
    throw new IllegalStateException(missing(program) + ", or set " + variable);
  }

  /** For what no container does: several servers that know each other. */
  Path required(String program) {
    return program(program).orElseThrow(() -> new IllegalStateException(missing(program)));
  }

  static String missing(String program) {
    return "no " + program + " for the tests: run scripts/install-test-servers, or apt-get install "
        + program + ", or brew install " + program;
  }
}
