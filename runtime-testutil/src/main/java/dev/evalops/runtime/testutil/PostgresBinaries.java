package dev.evalops.runtime.testutil;

import io.zonky.test.db.postgres.embedded.DefaultPostgresBinaryResolver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Stream;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.tukaani.xz.XZInputStream;

/**
 * The unpacked programs of a Postgres, one copy per machine and user.
 *
 * @param home holds {@code bin}, {@code lib} and {@code share}
 * @param prefix the command that turns root into somebody else, because Postgres does not run as root, and that gives
 *     the user a name, because it does not run without; else empty
 */
record PostgresBinaries(Path home, List<String> prefix) {
  private static final int UNPRIVILEGED = 65_534;
  private static final Shared<PostgresBinaries> SHARED =
      new Shared<>(() -> unpack(Path.of(System.getProperty("java.io.tmpdir")), UNPRIVILEGED));
  private static final String FILE_COUNT = "file-count";
  private static final String LOCK = "lock";
  private static final String PASSWD = "passwd.so";

  static PostgresBinaries unpacked() {
    return SHARED.get();
  }

  /**
   * Unpacks the programs, unless a complete copy is there.
   *
   * @param parent where the copy is
   * @param substitute the id of the user that root turns into
   */
  static PostgresBinaries unpack(Path parent, int substitute) {
    String system =
        System.getProperty("os.name").startsWith("Mac") ? "Darwin" : System.getProperty("os.name");
    try (InputStream in =
        DefaultPostgresBinaryResolver.INSTANCE.getPgBinary(system, System.getProperty("os.arch"))) {
      byte[] archive = in.readAllBytes();
      byte[] passwd = passwd();
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(archive);
      String version = HexFormat.of().formatHex(digest.digest(passwd), 0, 6);
      int user = userId(parent);
      Path home = ownDirectory(parent, "testutil-postgres-" + user + "-" + version, user);
      try (FileChannel channel = FileChannel.open(
          home.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
        lock(channel); // until it is closed
        if (!isComplete(home)) {
          clear(home);
          Files.write(home.resolve(PASSWD), passwd);
          extract(archive, home);
        }
      }
      List<String> prefix = new ArrayList<>(user == 0 ? notAsRoot(substitute) : List.of());
      if (passwd.length > 0 && !hasName(prefix)) {
        prefix.addAll(List.of("env", "LD_PRELOAD=" + home.resolve(PASSWD)));
      }
      return new PostgresBinaries(home, List.copyOf(prefix));
    } catch (IOException e) {
      throw new UncheckedIOException("cannot unpack Postgres: " + e.getMessage(), e);
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every JDK has SHA-256", e);
    }
  }

  /** The library that gives every user a name, without which Postgres does not run; empty where there is none. */
  private static byte[] passwd() throws IOException {
    try (InputStream in =
        PostgresBinaries.class.getResourceAsStream("passwd-" + Host.current().platform() + ".so")) {
      return in == null ? new byte[0] : in.readAllBytes();
    }
  }

  // Not by name: a user may have none.
  private static int userId(Path parent) throws IOException {
    Path file = Files.createTempFile(parent, "testutil-", "");
    try {
      return owner(file);
    } finally {
      Files.delete(file);
    }
  }

  private static int owner(Path file) throws IOException {
    return (int) Files.getAttribute(file, "unix:uid", LinkOption.NOFOLLOW_LINKS);
  }

  // Everybody can write to /tmp: what somebody else has put there under this name is not used.
  static Path ownDirectory(Path parent, String name, int user) throws IOException {
    for (int i = 1; ; i++) {
      Path directory = parent.resolve(i == 1 ? name : name + "-" + i);
      try {
        Files.createDirectory(directory);
        Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
        return directory;
      } catch (FileAlreadyExistsException e) {
        if (Files.isDirectory(directory, LinkOption.NOFOLLOW_LINKS) && owner(directory) == user) {
          return directory;
        }
      }
    }
  }

  private static void lock(FileChannel channel) throws IOException {
    while (true) {
      try {
        var unused = channel.lock();
        return;
      } catch (OverlappingFileLockException e) { // another class loader of this JVM has it
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(10));
      }
    }
  }

  // Whoever cleans /tmp may take single files, and an unpacking JVM may be killed.
  private static boolean isComplete(Path home) throws IOException {
    Path count = home.resolve(FILE_COUNT);
    return Files.isRegularFile(count)
        && Files.readString(count).equals(Long.toString(files(home).size()));
  }

  private static void clear(Path home) throws IOException {
    Files.deleteIfExists(home.resolve(FILE_COUNT));
    List<Path> files = files(home);
    for (int i = files.size() - 1; i > 0; i--) { // what is in a directory comes behind it
      Files.delete(files.get(i));
    }
  }

  /** The directory itself and what is in it, but for the two files that are not Postgres's. */
  private static List<Path> files(Path home) throws IOException {
    try (Stream<Path> files = Files.walk(home)) {
      return files
          .filter(file -> !file.endsWith(FILE_COUNT) && !file.endsWith(LOCK))
          .toList();
    }
  }

  private static void extract(byte[] archive, Path home) throws IOException {
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
    Files.writeString(home.resolve(FILE_COUNT), Long.toString(files(home).size()));
  }

  // setpriv works in a container, where unshare is mostly forbidden; unshare where there is no
  // setpriv.
  private static List<String> notAsRoot(int substitute) throws IOException {
    for (List<String> candidate : List.of(
        List.of("setpriv", "--reuid=" + substitute, "--regid=" + substitute, "--clear-groups"),
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

  private static boolean hasName(List<String> prefix) throws IOException {
    return Host.current().program("id").isEmpty() || exitCode(prefix, "id", "-un") == 0;
  }

  private static int exitCode(List<String> prefix, String... program) throws IOException {
    List<String> line = new ArrayList<>(prefix);
    line.addAll(List.of(program));
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
      giveAway(directory);
      giveAway(passwordFile);
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot prepare " + directory + " for Postgres: " + e.getMessage(), e);
    }
    List<String> line = command("initdb");
    line.addAll(List.of("-D", data.toString(), "-U", user, "--pwfile=" + passwordFile));
    line.addAll(List.of("-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"));
    return line;
  }

  /** Makes a file that of the user that Postgres runs as. */
  void giveAway(Path file) throws IOException {
    if (!prefix.isEmpty() && prefix.get(0).equals("setpriv")) {
      String user = prefix.get(1).substring("--reuid=".length());
      Files.setAttribute(file, "unix:uid", Integer.parseInt(user));
    }
  }
}
