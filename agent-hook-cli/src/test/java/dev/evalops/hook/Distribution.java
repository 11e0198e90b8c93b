package dev.evalops.hook;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;

/** An installed hook for one test: a copy of the launcher under a certain shell, and a jar. */
public record Distribution(Path home) {
  private static final Path LAUNCHER = Path.of("src/main/sh/evalops-agent-hook");

  /** The shells that /bin/sh can be. */
  public enum Shell {
    DASH("dash"),
    BASH("bash");

    private final String name;

    Shell(String name) {
      this.name = name;
    }

    /** A path that ends in sh, by which a bash knows what it is to be. */
    public Path sh(Path work) throws IOException {
      for (String folder : List.of("/usr/bin", "/bin", "/usr/local/bin")) {
        Path shell = Path.of(folder, name);
        if (Files.isExecutable(shell)) {
          Path copy = Files.createDirectories(work.resolve(name)).resolve("sh");
          return Files.exists(copy)
              ? copy
              : Files.copy(shell, copy, StandardCopyOption.COPY_ATTRIBUTES);
        }
      }
      throw new AssertionError("install " + name);
    }
  }

  public static Distribution create(Path work, Shell shell) throws IOException {
    Distribution distribution = new Distribution(work.resolve("evalops"));
    Files.createDirectories(distribution.lib());
    Files.createDirectories(distribution.launcher().getParent());
    mode(
        "rwxr-xr-x",
        distribution.home,
        distribution.lib(),
        distribution.launcher().getParent());
    Files.writeString(
        distribution.launcher(),
        Files.readString(LAUNCHER).replaceFirst("#!/bin/sh -p", "#!" + shell.sh(work) + " -p"));
    mode("rwxr-xr-x", distribution.launcher());
    Files.writeString(distribution.jar(), "no jar");
    Files.setLastModifiedTime(
        distribution.jar(), FileTime.from(Instant.parse("2026-01-01T00:00:00Z")));
    mode("rw-r--r--", distribution.jar());
    return distribution;
  }

  /** A copy of what the build has made. */
  public static Distribution copy(Path built, Path home) throws IOException {
    try (Stream<Path> files = Files.walk(built)) {
      for (Path file : files.toList()) {
        Files.copy(
            file,
            home.resolve(built.relativize(file).toString()),
            StandardCopyOption.COPY_ATTRIBUTES);
      }
    }
    return new Distribution(home);
  }

  /** Every Java of this machine that the hook runs on, the oldest first. */
  public static List<Path> javaHomes() throws IOException {
    try (Stream<Path> homes = Files.list(Path.of("/usr/lib/jvm"))) {
      return homes
          .filter(
              home -> Files.isExecutable(home.resolve("bin/java")) && !Files.isSymbolicLink(home))
          .filter(home -> major(home) >= 17)
          .sorted(Comparator.comparingInt(Distribution::major))
          .toList();
    }
  }

  /** The version of a Java, 0 if it does not say. */
  public static int major(Path javaHome) {
    try {
      Properties release = new Properties();
      try (InputStream in = Files.newInputStream(javaHome.resolve("release"))) {
        release.load(in);
      }
      return Integer.parseInt(
          release.getProperty("JAVA_VERSION").replaceAll("\\D*([0-9]+).*", "$1"));
    } catch (IOException e) {
      return 0;
    }
  }

  public static void mode(String mode, Path... files) throws IOException {
    for (Path file : files) {
      Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(mode));
    }
  }

  public Path launcher() {
    return home.resolve("bin/evalops-agent-hook");
  }

  public Path lib() {
    return home.resolve("lib");
  }

  public Path jar() {
    return lib().resolve("evalops-agent-hook.jar");
  }

  public Path conf() {
    return lib().resolve("launcher.conf");
  }

  public void edit(UnaryOperator<String> change) throws IOException {
    String before = Files.readString(launcher());
    String after = change.apply(before);
    if (after.equals(before)) {
      throw new AssertionError("the launcher is not what the test thinks");
    }
    Files.writeString(launcher(), after);
  }

  public void configure(String conf) throws IOException {
    Files.writeString(conf(), conf);
    mode("rw-r--r--", conf());
  }

  /** Fixes a Java that is a shell script. */
  public Path fakeJava(String version, String script) throws IOException {
    Path java = fakeJava(home.resolveSibling("java-" + version), version, script);
    configure("java=" + java + "\n");
    return java;
  }

  public static Path fakeJava(Path javaHome, String version, String script) throws IOException {
    Path java = Files.createDirectories(javaHome.resolve("bin")).resolve("java");
    Files.writeString(java, "#!/bin/sh\n" + script + "\n");
    mode("rwxr-xr-x", java);
    Files.writeString(
        javaHome.resolve("release"),
        "IMPLEMENTOR=\"Test\"\nJAVA_RUNTIME_VERSION=\"" + version + "+1\"\nJAVA_VERSION=\""
            + version + "\"\nOS_NAME=\"Linux\"\n");
    return java;
  }

  public Path cacheFolder() throws IOException {
    Path folder = Files.createDirectories(lib().resolve("cache"));
    mode("rwxr-xr-x", folder);
    return folder;
  }

  /** By what the launcher knows the start-up cache of this very jar. */
  public String stamp() {
    try {
      Process cksum = new ProcessBuilder("cksum").redirectInput(jar().toFile()).start();
      return new String(cksum.getInputStream().readAllBytes(), StandardCharsets.US_ASCII)
          .strip()
          .replace(' ', '-');
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The start-up cache of a Java. */
  public Path cache(String java) throws IOException {
    Path cache = Files.writeString(cacheFolder().resolve(stamp() + "-" + java), "cache");
    mode("rw-r--r--", cache);
    return cache;
  }

  public Launched start(Map<String, String> environment, String... arguments) throws IOException {
    String[] command = new String[arguments.length + 1];
    command[0] = launcher().toString();
    System.arraycopy(arguments, 0, command, 1, arguments.length);
    return Launched.start(home, environment, command);
  }

  /** As {@link #start}, but signals reach it also when a build in the background ignores them and hands that down. */
  public Launched startForSignals(Map<String, String> environment) throws IOException {
    return Launched.start(
        home,
        environment,
        "/usr/bin/perl",
        "-e",
        "$SIG{$_} = DEFAULT for qw(HUP INT QUIT TERM); exec @ARGV",
        launcher().toString(),
        "governance-check");
  }

  /** Asks about one event. */
  public Launched.Result check(Map<String, String> environment) throws Exception {
    try (Launched hook = start(environment, "governance-check")) {
      return hook.write(Launched.EVENT).end();
    }
  }

  public Launched.Result check() throws Exception {
    return check(Map.of());
  }
}
