package dev.evalops.hook.install;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/** Writes the hook's entry into the settings of a host, or the files of its service, or takes them away. */
final class Install {
  private final Installation installation;
  private final Host.Places places;
  private final PrintStream out;

  private @Nullable Host host;
  private boolean managed;
  private boolean service;
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
   * @param command {@code install} or {@code uninstall}
   * @return 0 if all is done, 1 if it could not be, 2 for arguments that it does not know
   */
  static int run(String command, List<String> args, PrintStream out, PrintStream err) {
    try {
      return new Install(Installation.current(), Host.Places.ofThisMachine(), out)
          .run(command, args, err);
    } catch (IOException e) {
      err.println("evalops-agent-hook: " + e.getMessage());
      return 1;
    }
  }

  int run(String command, List<String> args, PrintStream err) {
    if (!parse(args) || service == (host != null) || (service && managed)) {
      err.println(
          "usage: evalops-agent-hook " + command
              + " --host claude|codex|gemini|qwen|copilot|cursor [--managed] [--dry-run] | --service [--dry-run]");
      return 2;
    }
    Host target = host;
    if (target == null) {
      return service(command, err);
    }
    if (!managed && !target.hasUserSettings()) {
      err.println("evalops-agent-hook: the entry of " + target.title()
          + " is for all users: add --managed");
      return 2;
    }
    Path file = target.file(managed, places);
    try {
      if (command.equals("install")) {
        install(target, file);
      } else {
        uninstall(target, file);
      }
      return 0;
    } catch (NotUnderstoodException e) {
      err.println("evalops-agent-hook: " + file + " is left unchanged: " + e.getMessage());
      return 1;
    } catch (IOException e) {
      err.println("evalops-agent-hook: " + command + " failed: " + e);
      return 1;
    }
  }

  private int service(String command, PrintStream err) {
    ServiceUnits units = new ServiceUnits(installation.home(), places.mac());
    try {
      if (command.equals("install")) {
        install(units);
      } else {
        uninstall(units);
      }
      return 0;
    } catch (IOException | NotUnderstoodException e) {
      err.println("evalops-agent-hook: " + command + " --service failed: " + e.getMessage());
      return 1;
    }
  }

  private void install(ServiceUnits units) throws IOException, NotUnderstoodException {
    List<String> unsafe = new ArrayList<>(installation.unmanaged());
    unsafe.addAll(installation.unusable());
    if (!Files.isExecutable(ServiceUnits.PERL)) {
      unsafe.add("the launcher reaches the service by " + ServiceUnits.PERL + ", which is missing");
    }
    if (!unsafe.isEmpty()) {
      throw new NotUnderstoodException(String.join("; ", unsafe));
    }
    managed = true;
    for (Map.Entry<Path, String> file : units.files(places.root()).entrySet()) {
      write(
          SettingsFile.read(file.getKey()), file.getKey(), file.getValue(), " is as it should be");
    }
    if (!dryRun) {
      prepare();
    }
    SettingsFile conf = SettingsFile.read(installation.conf());
    write(
        conf,
        installation.conf(),
        without("service=", conf.text()) + "service=" + units.socket() + "\n",
        " names the service already");
    out.print("Until the service runs, each call starts a JVM. Run as root:\n"
        + units.start(installation.managedFile()));
  }

  private void uninstall(ServiceUnits units) throws IOException, NotUnderstoodException {
    managed = true;
    SettingsFile conf = SettingsFile.read(installation.conf());
    write(conf, installation.conf(), without("service=", conf.text()), " names no service");
    for (Path file : units.files(places.root()).keySet()) {
      SettingsFile unit = SettingsFile.read(file);
      if (unit.exists()) {
        out.print(UnifiedDiff.of(file.toString(), unit.text(), ""));
        if (!dryRun) {
          unit.delete();
          out.println("deleted: " + file);
        }
      }
    }
    out.print("Run as root:\n" + units.stop());
  }

  private static String without(String key, String conf) {
    return conf.lines()
        .filter(line -> !line.startsWith(key))
        .map(line -> line + "\n")
        .collect(Collectors.joining());
  }

  /** Whether the arguments are known. */
  private boolean parse(List<String> args) {
    for (int i = 0; i < args.size(); i++) {
      String value = i + 1 < args.size() ? args.get(i + 1) : null;
      switch (args.get(i)) {
        case "--managed" -> managed = true;
        case "--service" -> service = true;
        case "--dry-run" -> dryRun = true;
        case "--host" -> {
          i++;
          boolean known = false;
          for (Host each : Host.values()) {
            if (each.option().equals(value) && host == null) {
              host = each;
              known = true;
            }
          }
          if (!known) {
            return false;
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
          return false;
        }
      }
    }
    return true;
  }

  private void install(Host target, Path file) throws IOException, NotUnderstoodException {
    String command = target.command(installation);
    List<String> unsafe =
        new ArrayList<>(managed ? installation.unmanaged() : installation.changeable());
    if (managed) {
      unsafe.addAll(Installation.unreadable(places.root(), file));
    }
    if (!unsafe.isEmpty()) {
      throw new NotUnderstoodException(String.join("; ", unsafe));
    }
    boolean skillsAsk = skillsAsk(target);
    HostSettings settings = target.settings(managed, installation, skillsAsk);
    SettingsFile current = SettingsFile.read(file);
    String text = settings.install(current.text(), command);
    List<String> dropIns = new ArrayList<>();
    for (Path dropIn : target.dropIns(managed, places)) {
      dropIns.add(SettingsFile.read(dropIn).text());
    }
    List<String> wrong = settings.problems(text, dropIns, command);
    if (!wrong.isEmpty()) {
      throw new NotUnderstoodException(String.join("; ", wrong));
    }
    if (!dryRun) {
      prepare();
    }
    write(current, file, text, " has the entry already");
    advise(target, skillsAsk);
  }

  private void uninstall(Host target, Path file) throws IOException, NotUnderstoodException {
    SettingsFile current = SettingsFile.read(file);
    String command = target.command(installation);
    String text = target.settings(managed, installation, true).uninstall(current.text());
    boolean ours = text.isBlank();
    for (boolean skillsAsk : new boolean[] {true, false}) {
      ours |= current
          .text()
          .equals(target.settings(managed, installation, skillsAsk).install("", command));
    }
    if (current.exists() && ours) {
      out.print(UnifiedDiff.of(file.toString(), current.text(), ""));
      if (!dryRun) {
        current.delete();
        out.println("deleted: " + file);
      }
      return;
    }
    write(current, file, text, " has no entry");
    if (managed && !text.equals(current.text())) {
      out.println(
          "Other settings that keep hooks of users and repositories from running stay in " + file);
    }
  }

  private void write(SettingsFile current, Path file, String text, String unchanged)
      throws IOException {
    if (text.equals(current.text())) {
      out.println(file + unchanged);
      return;
    }
    out.print(UnifiedDiff.of(file.toString(), current.text(), text));
    if (!dryRun) {
      Optional<Path> backup = current.replace(text, managed ? "rw-r--r--" : "rw-------");
      out.println("written: " + file);
      backup.ifPresent(copy -> out.println("what was there: " + copy));
    }
  }

  /** Whether the version on this machine is known to ask about the shell commands of skills. */
  private boolean skillsAsk(Host target) {
    Optional<Path> program = places.program(target.option());
    if (target != Host.CLAUDE || program.isEmpty()) {
      return target != Host.CLAUDE;
    }
    try {
      return Programs.version(program.get(), places.environment())
          .filter(version -> !Programs.isOlder(version, Host.SKILLS_ASK))
          .isPresent();
    } catch (IOException e) {
      return false;
    }
  }

  /** Fixes the Java, and makes its start-up cache; without the right to do so the launcher does without both. */
  private void prepare() throws IOException {
    if (!Files.isWritable(installation.lib())) {
      out.println(installation.lib()
          + " cannot be written: the path of Java is not saved, and no start-up cache is made");
      return;
    }
    if (java != null && !installation.configured("java").equals(Optional.of(java))) {
      SettingsFile conf;
      try {
        conf = SettingsFile.read(installation.conf());
      } catch (NotUnderstoodException e) {
        throw new IOException(installation.conf() + ": " + e.getMessage(), e);
      }
      conf.replace(without("java=", conf.text()) + "java=" + java + "\n", "rw-r--r--");
      out.println("Java: " + java + ", saved in " + installation.conf());
    }
    if (!Files.isDirectory(installation.cache())) {
      Files.createDirectory(installation.cache());
      Files.setPosixFilePermissions(
          installation.cache(), PosixFilePermissions.fromString("rwxr-xr-x"));
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

  private void advise(Host target, boolean skillsAsk) throws IOException {
    if (managed) {
      installation.unusable().forEach(problem -> out.println("All calls are blocked: " + problem));
    }
    if (!skillsAsk) {
      out.println("disableSkillShellExecution is true, because Claude Code before "
          + Host.SKILLS_ASK + " runs the shell commands of skills unasked"
          + (places.program(target.option()).isPresent()
              ? "."
              : ", and its version is unknown: it is not on the path."));
    }
    if (target == Host.CODEX && !managed) {
      out.println(
          "Codex runs the hook only once it is trusted: review it with /hooks, again after each change of the entry.");
    }
    if (!managed) {
      out.println(
          "Users and repositories can switch this hook off; --managed writes settings that they cannot undo.");
    }
    target.leavesOpen().ifPresent(out::println);
    out.println(target.title() + " from " + target.oldest()
        + " on. Now try a tool call that the policy denies: a wrong set-up looks like one "
        + "that allows. See also: evalops-agent-hook doctor");
  }
}
