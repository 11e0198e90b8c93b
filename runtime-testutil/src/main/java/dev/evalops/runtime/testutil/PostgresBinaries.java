package dev.evalops.runtime.testutil;

import io.zonky.test.db.postgres.embedded.DefaultPostgresBinaryResolver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.tukaani.xz.XZInputStream;

/**
 * The unpacked programs of a Postgres, one copy per machine and user.
 *
 * @param home holds {@code bin}, {@code lib} and {@code share}
 * @param prefix the command that turns root into somebody else, because Postgres does not run as root; else empty
 */
record PostgresBinaries(Path home, List<String> prefix) {
  private static final Shared<PostgresBinaries> SHARED = new Shared<>(PostgresBinaries::unpack);
  private static final String UNPRIVILEGED = "65534";
  private static final String FILE_COUNT = "file-count";

  static PostgresBinaries unpacked() {
    return SHARED.get();
  }

  private static PostgresBinaries unpack() {
    String system =
        System.getProperty("os.name").startsWith("Mac") ? "Darwin" : System.getProperty("os.name");
    try (InputStream in =
        DefaultPostgresBinaryResolver.INSTANCE.getPgBinary(system, System.getProperty("os.arch"))) {
      byte[] archive = in.readAllBytes();
      String digest =
          HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(archive), 0, 6);
      Path parent = Path.of(System.getProperty("java.io.tmpdir"));
      Path home =
          parent.resolve("testutil-postgres-" + System.getProperty("user.name") + "-" + digest);
      if (!isComplete(home)) {
        Path fresh = Files.createTempDirectory(parent, home.getFileName() + "-");
        extract(archive, fresh);
        home = moveOrKeep(fresh, home);
      }
      return new PostgresBinaries(home, notAsRoot());
    } catch (IOException e) {
      throw new UncheckedIOException("cannot unpack Postgres: " + e.getMessage(), e);
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every JDK has SHA-256", e);
    }
  }

  // Whoever cleans /tmp may take single files.
  private static boolean isComplete(Path home) throws IOException {
    Path count = home.resolve(FILE_COUNT);
    return Files.isRegularFile(count)
        && Files.getOwner(home).getName().equals(System.getProperty("user.name"))
        && Files.readString(count).equals(Long.toString(countFiles(home)));
  }

  private static long countFiles(Path home) throws IOException {
    try (Stream<Path> files = Files.walk(home)) {
      return files.filter(file -> !file.endsWith(FILE_COUNT)).count();
    }
  }

  private static void extract(byte[] archive, Path home) throws IOException {
    Files.setPosixFilePermissions(home, PosixFilePermissions.fromString("rwxr-xr-x"));
    try (TarArchiveInputStream tar =
        new TarArchiveInputStream(new XZInputStream(new ByteArrayInputStream(archive)))) {
      for (TarArchiveEntry entry = tar.getNextEntry(); entry != null; entry = tar.getNextEntry()) {
        Path file = home.resolve(entry.getName()).normalize();
        if (entry.isDirectory()) {
          Files.createDirectories(file);
          continue;
        }
        Path folder = Objects.requireNonNull(file.getParent());
        Files.createDirectories(folder);
        if (entry.isSymbolicLink()) {
          Files.createSymbolicLink(file, Path.of(entry.getLinkName()));
        } else {
          Files.copy(tar, file);
          boolean program = folder.endsWith("bin");
          Files.setPosixFilePermissions(
              file, PosixFilePermissions.fromString(program ? "rwxr-xr-x" : "rw-r--r--"));
        }
      }
    }
    Files.writeString(home.resolve(FILE_COUNT), Long.toString(countFiles(home)));
  }

  // Another JVM may have been quicker, or left a damaged copy; then this one keeps its own.
  private static Path moveOrKeep(Path fresh, Path home) throws IOException {
    try {
      return Files.move(fresh, home, StandardCopyOption.ATOMIC_MOVE);
    } catch (FileSystemException e) {
      return isComplete(home) ? home : fresh;
    }
  }

  // setpriv works in a container, where unshare is mostly forbidden; unshare where there is no
  // setpriv.
  private static List<String> notAsRoot() throws IOException {
    if (!System.getProperty("user.name").equals("root")) {
      return List.of();
    }
    for (List<String> candidate : List.of(
        List.of("setpriv", "--reuid=" + UNPRIVILEGED, "--regid=" + UNPRIVILEGED, "--clear-groups"),
        List.of("unshare", "-U"))) {
      if (Host.current().program(candidate.get(0)).isPresent()
          && exitCode(candidate, "true") == 0) {
        return candidate;
      }
    }
    throw new IllegalStateException(
        "Postgres does not run as root: run the tests as another user, install setpriv (util-linux),"
            + " or set TEST_DATABASE_URL");
  }

  private static int exitCode(List<String> prefix, String program) throws IOException {
    List<String> line = new ArrayList<>(prefix);
    line.add(program);
    return new ProcessBuilder(line)
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start()
        .onExit()
        .join()
        .exitValue();
  }

  /** The begin of a command line that runs one of the programs. */
  List<String> command(String program) {
    List<String> line = new ArrayList<>(prefix);
    line.add(home.resolve("bin").resolve(program).toString());
    return line;
  }

  /** The command line that makes the files of an empty database server, for a directory that is prepared for it. */
  List<String> initdb(Path directory, Path data, String user, String password) {
    Path passwordFile = directory.resolve("password");
    try {
      Files.writeString(passwordFile, password);
      if (!prefix.isEmpty()) {
        giveAway(directory);
        giveAway(passwordFile);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot prepare " + directory + " for Postgres: " + e.getMessage(), e);
    }
    List<String> line = command("initdb");
    line.addAll(List.of("-D", data.toString(), "-U", user, "--pwfile=" + passwordFile));
    line.addAll(List.of("-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"));
    return line;
  }

  private void giveAway(Path file) throws IOException {
    if (prefix.get(0).equals("setpriv")) {
      Files.setAttribute(file, "unix:uid", Integer.parseInt(UNPRIVILEGED));
    }
  }
}
