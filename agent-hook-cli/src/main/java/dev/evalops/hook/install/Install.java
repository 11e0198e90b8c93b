package dev.evalops.hook.install;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** Writes the hook's entry into the settings of a host. */
final class Install {
  static final String USAGE =
      "usage: evalops-agent-hook install --host claude|codex [--managed] [--dry-run]";

  private final Installation installation;
  private final Host.Places places;
  private final PrintStream out;

  private @Nullable Host host;
  private boolean managed;
  private boolean dryRun;
  private @Nullable String java;
  private @Nullable String cache;

  Install(Installation installation, Host.Places places, PrintStream out) {
    this.installation = installation;
    this.places = places;
    this.out = out;
  }

  /**
   * Runs the command.
   *
   * @return 0 if the entry is there, 1 if it could not be written, 2 for arguments that it does not know
   */
  static int run(List<String> args, PrintStream out, PrintStream err) {
    try {
      return new Install(Installation.current(), Host.Places.ofThisMachine(), out).run(args, err);
    } catch (IOException e) {
      err.println("evalops-agent-hook: " + e.getMessage());
      return 1;
    }
  }

  int run(List<String> args, PrintStream err) {
    Host target = parse(args);
    if (target == null) {
      err.println(USAGE);
      return 2;
    }
    Path file = target.file(managed, places);
    try {
      install(target, file);
      return 0;
    } catch (NotUnderstoodException e) {
      err.println("evalops-agent-hook: " + file + " stays as it is: " + e.getMessage());
      return 1;
    } catch (IOException e) {
      err.println("evalops-agent-hook: not installed: " + e);
      return 1;
    }
  }

  private @Nullable Host parse(List<String> args) {
    for (int i = 0; i < args.size(); i++) {
      String value = i + 1 < args.size() ? args.get(i + 1) : null;
      switch (args.get(i)) {
        case "--managed" -> managed = true;
        case "--dry-run" -> dryRun = true;
        case "--host" -> {
          i++;
          for (Host known : Host.values()) {
            if (known.option().equals(value)) {
              if (host != null) {
                return null;
              }
              host = known;
            }
          }
          if (host == null) {
            return null;
          }
        }
        // Added by the launcher: the Java that it has found, and where it looks for its start-up
        // cache.
        case "--java" -> {
          i++;
          java = value;
        }
        case "--cache" -> {
          i++;
          cache = value;
        }
        default -> {
          return null;
        }
      }
    }
    return host;
  }

  private void install(Host target, Path file) throws IOException, NotUnderstoodException {
    String command = installation.command();
    List<String> unsafe = managed ? installation.unmanaged() : installation.changeable();
    if (!unsafe.isEmpty()) {
      throw new NotUnderstoodException(String.join("; ", unsafe));
    }
    HostSettings settings = target.settings(managed, installation);
    SettingsFile current = SettingsFile.read(file);
    String text = settings.install(current.text(), command);
    List<String> wrong = settings.problems(text, command);
    if (!wrong.isEmpty()) {
      throw new NotUnderstoodException(String.join("; ", wrong));
    }
    boolean changed = !text.equals(current.text());
    if (changed) {
      out.print(UnifiedDiff.of(file.toString(), current.text(), text));
    } else {
      out.println(file + " has the entry already");
    }
    if (!dryRun) {
      prepare();
      if (changed) {
        Optional<Path> backup = current.replace(text, managed ? "rw-r--r--" : "rw-------");
        out.println("written: " + file);
        backup.ifPresent(copy -> out.println("what was there: " + copy));
      }
    }
    advise(target);
  }

  /** Fixes the Java, and makes its start-up cache; without the right to do so the launcher does without both. */
  private void prepare() throws IOException {
    if (!Files.isWritable(installation.lib())) {
      out.println(installation.lib()
          + " belongs to somebody else: neither the Java is fixed nor a start-up cache made");
      return;
    }
    if (java != null && installation.configured("java").isEmpty()) {
      SettingsFile conf;
      try {
        conf = SettingsFile.read(installation.conf());
      } catch (NotUnderstoodException e) {
        throw new IOException(installation.conf() + ": " + e.getMessage(), e);
      }
      conf.replace(conf.text() + "java=" + java + "\n", "rw-r--r--");
      out.println("Java: " + java + ", fixed in " + installation.conf());
    }
    if (!Files.isDirectory(installation.cache())) {
      Files.createDirectory(
          installation.cache(),
          PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-xr-x")));
    }
    if (cache == null) {
      return;
    }
    try {
      StartupCache.of(Path.of(cache)).make();
      out.println("start-up cache: " + cache);
    } catch (IOException | RuntimeException e) {
      out.println("no start-up cache, calls take longer: " + e.getMessage());
    }
  }

  private void advise(Host target) {
    if (target == Host.CODEX && !managed) {
      out.println(
          "Codex runs the hook only once it is trusted: review it with /hooks, again after each change of the entry.");
    }
    if (!managed) {
      out.println(
          "Users and repositories can switch this hook off; --managed writes settings that they cannot undo.");
    }
    out.println(
        target.title() + " from " + target.oldest()
            + " on. Now try a tool call that the policy denies: a wrong set-up looks like one that allows. See also: evalops-agent-hook doctor");
  }
}
