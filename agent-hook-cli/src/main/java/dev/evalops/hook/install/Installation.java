package dev.evalops.hook.install;

import dev.evalops.hook.Probe;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * The folder in which the hook is installed.
 *
 * @param home the folder above bin and lib, without links
 */
record Installation(Path home) {
  private static final String JAR = "evalops-agent-hook.jar";

  /**
   * That from which this program runs.
   *
   * @throws IOException if the jar is not in the lib folder of one
   */
  static Installation current() throws IOException {
    Path jar;
    try {
      jar = Path.of(Installation.class
              .getProtectionDomain()
              .getCodeSource()
              .getLocation()
              .toURI())
          .toRealPath();
    } catch (URISyntaxException e) {
      throw new IOException("the jar has no path", e);
    }
    Path lib = jar.getParent();
    Path home = lib == null ? null : lib.getParent();
    if (home == null
        || !Files.isExecutable(new Installation(home).launcher())
        || !jar.equals(new Installation(home).jar())) {
      throw new IOException(
          jar + " is not in an installed folder with bin/evalops-agent-hook and lib/" + JAR);
    }
    return new Installation(home);
  }

  Path launcher() {
    return home.resolve("bin/evalops-agent-hook");
  }

  Path lib() {
    return home.resolve("lib");
  }

  Path jar() {
    return lib().resolve(JAR);
  }

  Path conf() {
    return lib().resolve("launcher.conf");
  }

  Path cache() {
    return lib().resolve("cache");
  }

  /**
   * What a shell runs.
   *
   * @param quote around the path where it needs one
   * @throws NotUnderstoodException if no shell would get it right
   */
  String command(String quote) throws NotUnderstoodException {
    String path = launcher().toString();
    String never = quote.equals("\"") ? "'\"$`\\" : "'";
    if (path.chars().anyMatch(c -> c < ' ' || never.indexOf(c) >= 0 || c == 127)) {
      throw new NotUnderstoodException(
          "the path " + home + " cannot be written into a command; install it elsewhere");
    }
    String word = path.matches("[A-Za-z0-9/._+-]+") ? path : quote + path + quote;
    return word + " governance-check";
  }

  /** The value of a key in launcher.conf. */
  Optional<String> configured(String key) throws IOException {
    if (!Files.exists(conf())) {
      return Optional.empty();
    }
    return Files.readAllLines(conf()).stream()
        .filter(line -> line.startsWith(key + "="))
        .map(line -> line.substring(key.length() + 1))
        .reduce((first, last) -> last);
  }

  /** The configuration, which need not be there. */
  Path managedFile() throws IOException {
    return configured("config").map(Path::of).orElse(Probe.MANAGED_FILE);
  }

  /** What of the program can be changed by others than root and its owner, with what to do. */
  List<String> changeable() throws IOException {
    List<String> problems = new ArrayList<>();
    Object self = Files.getOwner(lib());
    Path java = java();
    for (Path file : List.of(
        home,
        home.resolve("bin"),
        launcher(),
        lib(),
        jar(),
        conf(),
        cache(),
        java,
        java.resolve("lib"),
        java.resolve("bin"),
        java.resolve("bin/java"))) {
      if (Files.exists(file)) {
        PosixFileAttributes attributes = Files.readAttributes(file, PosixFileAttributes.class);
        if (isWritableByOthers(attributes)) {
          problems.add(file + " can be changed by others: chmod go-w " + file);
        } else if (!attributes.owner().equals(self) && !isRoot(file)) {
          problems.add(file + " belongs to " + attributes.owner().getName() + ": chown it to root");
        }
      }
    }
    return problems;
  }

  /**
   * What keeps some users from reading a file: a host that cannot read its settings goes by none.
   *
   * @param root of the file system
   */
  static List<String> unreadable(Path root, Path file) throws IOException {
    List<String> problems = new ArrayList<>();
    Set<Path> paths = new LinkedHashSet<>(List.of(file));
    if (Files.exists(file)) {
      paths.add(file.toRealPath()); // of a link
    }
    for (Path path : paths) {
      for (Path part = path; part != null && !part.equals(root); part = part.getParent()) {
        if (!Files.exists(part)) {
          continue;
        }
        Set<PosixFilePermission> permissions = Files.getPosixFilePermissions(part);
        boolean folder = Files.isDirectory(part);
        if (folder
            ? !permissions.contains(PosixFilePermission.OTHERS_EXECUTE)
            : !permissions.contains(PosixFilePermission.OTHERS_READ)) {
          problems.add(
              "not every user can read " + part + ": chmod " + (folder ? "a+rx " : "a+r ") + part);
        }
      }
    }
    return problems.stream().distinct().toList();
  }

  /** What keeps some users from running the hook, so that all their calls are blocked. */
  List<String> unusable() throws IOException {
    List<String> problems = new ArrayList<>();
    for (Path file : List.of(launcher(), jar(), conf())) {
      if (Files.exists(file)) {
        problems.addAll(unreadable(Path.of("/"), file));
      }
    }
    if (!Files.getPosixFilePermissions(launcher()).contains(PosixFilePermission.OTHERS_EXECUTE)) {
      problems.add("not every user can run " + launcher() + ": chmod a+rx " + launcher());
    }
    return problems.stream().distinct().toList();
  }

  /** What keeps this from being an installation that users cannot change: itself, or a folder above it. */
  List<String> unmanaged() throws IOException {
    List<String> problems = new ArrayList<>(changeable());
    for (Path file : List.of(launcher(), lib(), jar())) {
      if (!isRoot(file)) {
        problems.add(file + " does not belong to root: chown -R root " + home);
      }
    }
    addChangeableAbove(home, "the hook elsewhere, such as in /opt/evalops", problems);
    addChangeableAbove(java(), "a Java of root's, such as in /usr/lib/jvm", problems);
    Path file = Path.of("/").resolve(managedFile());
    if (Files.exists(file)) {
      for (Path path : List.of(file, file.toRealPath())) { // of a link
        addChangeableAbove(
            path.getParent(), "the configuration in a folder that root alone can change", problems);
      }
    }
    return problems.stream().distinct().toList();
  }

  private static void addChangeableAbove(
      @Nullable Path folder, String instead, List<String> problems) throws IOException {
    @Nullable Path next = folder;
    while (next != null) {
      Path above = next;
      next = above.getParent();
      PosixFileAttributes attributes = Files.readAttributes(above, PosixFileAttributes.class);
      // In a folder like /tmp only the owner of an entry can move it.
      boolean sticky = ((int) Files.getAttribute(above, "unix:mode") & 01000) != 0;
      if (!isRoot(above) || (isWritableByOthers(attributes) && !sticky)) {
        problems.add(above + " can be changed by others than root; install " + instead);
      }
    }
  }

  /** The Java that runs this program, as the launcher chose it; it decides as much as the program does. */
  private static Path java() throws IOException {
    return Path.of(System.getProperty("java.home")).toRealPath();
  }

  private static boolean isWritableByOthers(PosixFileAttributes attributes) {
    return attributes.permissions().contains(PosixFilePermission.GROUP_WRITE)
        || attributes.permissions().contains(PosixFilePermission.OTHERS_WRITE);
  }

  static boolean isRoot(Path file) throws IOException {
    return Files.getAttribute(file, "unix:uid").equals(0);
  }
}
