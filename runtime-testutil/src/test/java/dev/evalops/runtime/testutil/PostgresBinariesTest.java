package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PostgresBinariesTest {
  private static final int WITHOUT_ENTRY = 1_234_567;

  @Test
  void runsAsAUserWithoutName_fromOneCopyForAll(@TempDir Path directory) throws Exception {
    Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
    Path name = PostgresBinaries.unpacked().home().getFileName();
    Path half =
        Files.createDirectories(directory.resolve(name).resolve("half")); // of one that was killed
    List<CompletableFuture<PostgresBinaries>> atOnce = Stream.generate(() ->
            CompletableFuture.supplyAsync(() -> PostgresBinaries.unpack(directory, WITHOUT_ENTRY)))
        .limit(2)
        .toList();
    PostgresBinaries binaries = atOnce.get(0).get();
    assertThat(atOnce.get(1).get()).isEqualTo(binaries);
    assertThat(entries(directory)).containsExactly(binaries.home());
    assertThat(half).doesNotExist();

    try (PostgresServer server =
            ServerProcess.onFreePort(port -> PostgresServer.start(port, binaries));
        Connection connection = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test")) {
      assertThat(connection.isValid(5)).isTrue();
    }
  }

  @Test
  void doesNotUseWhatIsNoDirectoryOfItsOwn(@TempDir Path directory, @TempDir Path elsewhere)
      throws IOException {
    Files.createSymbolicLink(directory.resolve("copy"), elsewhere);
    Files.createFile(directory.resolve("copy-2"));
    int user = (int) Files.getAttribute(elsewhere, "unix:uid");
    Path own = PostgresBinaries.ownDirectory(directory, "copy", user);
    assertThat(own).isEqualTo(directory.resolve("copy-3")).isDirectory();
    assertThat(PostgresBinaries.ownDirectory(directory, "copy", user)).isEqualTo(own);
    assertThat(PostgresBinaries.ownDirectory(directory, "copy", user + 1))
        .isEqualTo(directory.resolve("copy-4"));
  }

  private static List<Path> entries(Path directory) throws IOException {
    try (Stream<Path> entries = Files.list(directory)) {
      return entries.toList();
    }
  }
}
