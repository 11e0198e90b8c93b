package dev.evalops.runtime.changejournal;

import com.zaxxer.hikari.HikariDataSource;
import java.io.File;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A JVM of its own with a main class of the tests; its arguments are the database's URL, user and password, then those
 * given.
 */
final class Child {
  private Child() {}

  static Process start(Class<?> main, String classPath, HikariDataSource db, String... arguments)
      throws IOException {
    Properties login = db.getDataSourceProperties();
    List<String> command = new ArrayList<>(List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xmx64m",
        "-cp",
        classPath,
        main.getName(),
        db.getJdbcUrl(),
        login.getProperty("user", ""),
        login.getProperty("password", "")));
    command.addAll(List.of(arguments));
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  static String wholeClassPath() {
    return System.getProperty("java.class.path");
  }

  /** Where these classes come from, and nothing else. */
  static String classPathOf(Class<?>... types) {
    return Stream.of(types)
        .map(type -> {
          try {
            return Path.of(
                    type.getProtectionDomain().getCodeSource().getLocation().toURI())
                .toString();
          } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
          }
        })
        .distinct()
        .collect(Collectors.joining(File.pathSeparator));
  }
}
