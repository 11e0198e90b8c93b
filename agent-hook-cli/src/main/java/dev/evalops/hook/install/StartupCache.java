package dev.evalops.hook.install;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * What a JVM keeps of an earlier start: an AOT cache (from Java 25 on) or an archive of classes. It is made by running
 * the hook against a service of our own, and is only ever an advantage: a JVM that cannot use it starts without.
 *
 * @param file where the launcher looks for it
 * @param java the JVM that starts with it
 * @param options those with which the launcher starts a JVM, its class path included
 */
record StartupCache(Path file, Path java, List<String> options) {
  static final Path NOTHING = Path.of("/dev/null");

  private static final String WORK = ".making-";

  /** The check sum and the size of the jar, with which the launcher begins the name. */
  private static final Pattern STAMP = Pattern.compile("[0-9]+-[0-9]+-");

  /** For each program; the launcher waits less when a tool call does. */
  private static final long SECONDS = 120;

  /**
   * That of the Java that runs.
   *
   * @param file ends in .aot or .jsa
   * @throws IOException if the system does not tell the options of this process
   */
  static StartupCache of(Path file) throws IOException {
    String[] all = ProcessHandle.current()
        .info()
        .arguments()
        .orElseThrow(() -> new IOException("the system does not tell the arguments of a process"));
    List<String> options = new ArrayList<>();
    for (String argument : all) {
      options.add(argument);
      if (options.size() > 1 && options.get(options.size() - 2).equals("-cp")) {
        return new StartupCache(
            file, Path.of(System.getProperty("java.home"), "bin", "java"), options);
      }
    }
    throw new IOException("this program was not started by its launcher");
  }

  /**
   * Recreates it.
   *
   * @throws IOException if it could not be made; what was there is as it was
   */
  void make() throws IOException {
    Path folder = file.getParent();
    if (folder == null) {
      throw new IOException(file + " has no folder");
    }
    try (DirectoryStream<Path> left = Files.newDirectoryStream(folder, WORK + "*")) {
      for (Path killed : left) {
        delete(killed);
      }
    }
    Path work = Files.createTempDirectory(folder, WORK);
    try {
      Path made = work.resolve(String.valueOf(file.getFileName()));
      try (Training service = Training.start(work)) {
        int status = java(
            isAot() ? "-XX:AOTCacheOutput=" + made : "-XX:ArchiveClassesAtExit=" + made,
            service.event(),
            service.arguments());
        if (status != Training.ALLOWED || !Files.exists(made)) {
          throw new IOException("the JVM that should make it ended with status " + status);
        }
      }
      Files.setPosixFilePermissions(made, PosixFilePermissions.fromString("rw-r--r--"));
      Files.move(made, file, StandardCopyOption.ATOMIC_MOVE);
      deleteThoseOfOtherJars(folder);
      delete(file.resolveSibling(file.getFileName() + ".lock"));
    } finally {
      delete(work);
    }
  }

  /** Nothing looks for them any more. */
  private void deleteThoseOfOtherJars(Path folder) throws IOException {
    Matcher stamp = STAMP.matcher(String.valueOf(file.getFileName()));
    if (!stamp.lookingAt()) {
      return;
    }
    try (DirectoryStream<Path> caches =
        Files.newDirectoryStream(folder, "[0-9]*-[0-9]*.{aot,jsa}")) {
      for (Path cache : caches) {
        if (!cache.getFileName().toString().startsWith(stamp.group())) {
          Files.deleteIfExists(cache);
        }
      }
    }
  }

  /** Whether a JVM starts with it. */
  boolean isUsable() throws IOException {
    if (!Files.exists(file)) {
      return false;
    }
    return java(
            isAot() ? "-XX:AOTCache=" + file : "-XX:SharedArchiveFile=" + file,
            NOTHING,
            isAot() ? "-XX:AOTMode=on" : "-Xshare:on",
            Training.PROGRAM)
        == 0;
  }

  private boolean isAot() {
    return file.toString().endsWith(".aot");
  }

  private int java(String cache, Path input, String... arguments) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(java.toString());
    command.add(cache);
    command.addAll(options);
    command.addAll(List.of(arguments));
    return run(command, input);
  }

  /** Runs a program without our environment and streams, for a bounded time. */
  static int run(List<String> command, Path input) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command)
        .redirectInput(input.toFile())
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .redirectError(ProcessBuilder.Redirect.DISCARD);
    builder.environment().clear();
    Process process = builder.start();
    try {
      if (!process.waitFor(SECONDS, TimeUnit.SECONDS)) {
        throw new IOException(command.get(0) + " took longer than " + SECONDS + " s");
      }
      return process.exitValue();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    } finally {
      process.descendants().forEach(ProcessHandle::destroyForcibly);
      process.destroyForcibly();
    }
  }

  private static void delete(Path folder) throws IOException {
    if (Files.exists(folder)) {
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.deleteIfExists(file);
        }
      }
    }
  }
}
