package dev.evalops.runtime.testutil;

import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.IntFunction;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Where the servers come from: the environment, the path; and the ports for them. */
final class Servers {
  private static final Logger LOG = LoggerFactory.getLogger(Servers.class);
  // Below the range from which systems take the local ports of outgoing connections: a client that
  // keeps trying the port of
  // a server that is down can otherwise get that very port as its own, connect to itself and keep
  // the server out.
  private static final int FIRST_PORT = 20_000;
  private static final int LAST_PORT = 31_999;
  private static final int ATTEMPTS = 20;

  private Servers() {}

  /** The server that a variable names, if it is set. */
  static Optional<URI> named(String variable, Map<String, String> environment) {
    String value = environment.getOrDefault(variable, "").strip();
    if (value.isEmpty()) {
      return Optional.empty();
    }
    try {
      return Optional.of(new URI(value));
    } catch (URISyntaxException e) {
      // Without the cause: its message holds the value, and that a password.
      throw new IllegalArgumentException(
          variable + " is no URL; in user and password, percent-encode what is special");
    }
  }

  /** The failure of one who has no server. */
  static IllegalStateException missing(String server, String program, String variable) {
    return new IllegalStateException("no " + server + " for the tests: install " + program
        + " (scripts/install-test-servers, apt-get install " + program + " or brew install "
        + program + "), or set "
        + variable);
  }

  /** Looks a program up on the {@code PATH} of an environment, and where Debian puts servers, which only root has there. */
  static Optional<Path> onPath(String program, Map<String, String> environment) {
    String path = environment.getOrDefault("PATH", "");
    return Pattern.compile(Pattern.quote(File.pathSeparator))
        .splitAsStream(path.isEmpty() ? "" : path + File.pathSeparator + "/usr/sbin")
        .filter(folder -> !folder.isEmpty())
        .map(folder -> Path.of(folder, program))
        .filter(file -> Files.isRegularFile(file) && Files.isExecutable(file))
        .findFirst();
  }

  /** Calls {@code starter} with a free port, and with another when somebody else was quicker. */
  static <T> T onFreePort(IntFunction<T> starter) {
    for (int attempt = 1; attempt < ATTEMPTS; attempt++) {
      int port = ThreadLocalRandom.current().nextInt(FIRST_PORT, LAST_PORT + 1);
      if (isFree(port)) {
        try {
          return starter.apply(port);
        } catch (ServerProcess.PortTakenException e) {
          LOG.atDebug().addKeyValue("port", port).log("port taken in the meantime; trying another");
        }
      }
    }
    return starter.apply(ThreadLocalRandom.current().nextInt(FIRST_PORT, LAST_PORT + 1));
  }

  private static boolean isFree(int port) {
    try (ServerSocket socket = new ServerSocket()) {
      socket.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
      return true;
    } catch (IOException e) {
      return false;
    }
  }
}
