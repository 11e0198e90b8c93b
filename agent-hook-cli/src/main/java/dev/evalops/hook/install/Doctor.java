package dev.evalops.hook.install;

import dev.evalops.hook.Probe;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** Finds what keeps the hook from being asked, or from answering: one line for each finding, with what to do. */
final class Doctor {
  static final String USAGE = "usage: evalops-agent-hook doctor";
  static final String CANARY = "evalops-doctor-canary";

  private static final String FAIL_CLOSED = "blocked (fail closed): ";
  private static final Pattern VERSION = Pattern.compile("[0-9]+(\\.[0-9]+)+");
  private static final long PROGRAM_SECONDS = 30;
  private static final int DAYS = 7;

  private final Installation installation;
  private final Host.Places places;
  private final PrintStream out;
  private @Nullable String java;
  private @Nullable String cache;
  private final Set<Host> entries = EnumSet.noneOf(Host.class);
  private boolean healthy = true;

  Doctor(Installation installation, Host.Places places, PrintStream out) {
    this.installation = installation;
    this.places = places;
    this.out = out;
  }

  /**
   * Runs the command.
   *
   * @return 0 if all is well, 1 if something is wrong, 2 for arguments that it does not know
   */
  static int run(List<String> args, PrintStream out, PrintStream err) {
    try {
      return new Doctor(Installation.current(), Host.Places.ofThisMachine(), out).run(args, err);
    } catch (IOException e) {
      err.println("evalops-agent-hook: " + e.getMessage());
      return 1;
    }
  }

  int run(List<String> args, PrintStream err) {
    for (int i = 0; i < args.size(); i += 2) {
      String value = i + 1 < args.size() ? args.get(i + 1) : null;
      if (args.get(i).equals("--java")) {
        java = value;
      } else if (args.get(i).equals("--cache")) {
        cache = value;
      } else {
        err.println(USAGE);
        return 2;
      }
    }
    examine("the program", this::program);
    examine("Java", this::java);
    examine("start-up cache", this::cache);
    examine("the configuration", this::configuration);
    boolean asked = false;
    for (Host host : Host.values()) {
      examine(host.title(), () -> host(host));
      asked |= entries.contains(host);
    }
    if (!asked) {
      bad("no host asks the hook: run evalops-agent-hook install --host claude, or --host codex");
    }
    return healthy ? 0 : 1;
  }

  private interface Examination {
    void run() throws IOException, NotUnderstoodException;
  }

  private void examine(String what, Examination examination) {
    try {
      examination.run();
    } catch (IOException | NotUnderstoodException | RuntimeException e) {
      bad(what + " cannot be examined: " + e);
    }
  }

  private void good(String finding) {
    out.println("ok    " + finding);
  }

  private void bad(String finding) {
    healthy = false;
    out.println("WRONG " + finding);
  }

  private void note(String finding) {
    out.println("note  " + finding);
  }

  private void program() throws IOException {
    List<String> problems = installation.changeable();
    problems.forEach(this::bad);
    if (problems.isEmpty()) {
      good("the program: " + installation.home() + ", and nobody else can change it");
    }
  }

  private void java() throws IOException {
    Optional<String> fixed = installation.configured("java");
    String running = System.getProperty("java.version") + ", " + System.getProperty("java.home");
    if (fixed.isEmpty()) {
      bad("Java: " + running + ", but it is not fixed in " + installation.conf()
          + ": run evalops-agent-hook install");
    } else if (!fixed.get().equals(java)) {
      bad("Java: " + fixed.get() + " in " + installation.conf()
          + " is not there: run evalops-agent-hook install");
    } else {
      good("Java: " + running);
    }
  }

  private void cache() throws IOException {
    if (cache == null) {
      note("start-up cache: not examined, this was not started by the launcher");
      return;
    }
    Path file = Path.of(cache);
    if (!Files.exists(file)) {
      bad(
          "start-up cache: there is none for this Java, calls take longer: run evalops-agent-hook install");
    } else if (Files.getLastModifiedTime(file)
                .compareTo(Files.getLastModifiedTime(installation.jar()))
            <= 0
        || !StartupCache.of(file).isUsable()) {
      bad("start-up cache: this Java cannot use " + file + ": run evalops-agent-hook install");
    } else {
      good("start-up cache: " + file);
    }
  }

  private void host(Host host) throws IOException, NotUnderstoodException {
    String command = installation.command();
    for (boolean managed : new boolean[] {true, false}) {
      Path file = host.file(managed, places);
      String text;
      List<String> problems;
      try {
        text = SettingsFile.read(file).text();
        if (!text.contains(HostSettings.NAME)) {
          continue;
        }
        problems = host.settings(managed, installation).problems(text, command);
      } catch (NotUnderstoodException e) {
        bad(host.title() + ": " + file + " cannot be judged: " + e.getMessage());
        continue;
      }
      entries.add(host);
      problems.forEach(problem -> bad(
          host.title() + ": " + file + ": " + problem + "; run evalops-agent-hook install --host "
              + host.option() + (managed ? " --managed" : "")));
      if (managed) {
        for (String problem : installation.unmanaged()) {
          bad(host.title() + ", managed: " + problem);
        }
        if (!Installation.isRoot(file)) {
          bad(host.title() + ": " + file + " does not belong to root: chown root " + file);
        }
      }
      if (problems.isEmpty()) {
        good(host.title() + ": " + file);
        if (!managed) {
          note(
              host.title()
                  + ": a user or a repository can switch this entry off; install --managed cannot be undone by them");
        }
      }
    }
    version(host);
  }

  private void version(Host host) throws IOException, NotUnderstoodException {
    boolean entered = entries.contains(host);
    Optional<Path> program = places.program(host.option());
    if (program.isEmpty()) {
      if (entered) {
        note(host.title() + ": its program is not on the path, its version was not examined");
      }
      return;
    }
    if (!entered) {
      bad(host.title()
          + " is on this machine and does not ask the hook: run evalops-agent-hook install --host "
          + host.option());
    }
    Matcher version =
        VERSION.matcher(run(List.of(program.get().toString(), "--version"), "").output());
    if (!version.find()) {
      note(host.title() + ": its version is unknown");
    } else if (compare(version.group(), host.oldest()) < 0) {
      bad(host.title() + " " + version.group() + " runs tools although the hook fails: use "
          + host.oldest() + " or later");
    } else {
      good(host.title() + " " + version.group());
      if (entered && host == Host.CODEX) {
        trust(host, program.get());
      }
    }
  }

  private void trust(Host host, Path program) throws IOException, NotUnderstoodException {
    List<String> problems =
        CodexTrust.problems(program, places.environment(), installation.command());
    problems.forEach(this::bad);
    if (problems.isEmpty()) {
      good(host.title() + " trusts the hook");
    }
  }

  private static int compare(String one, String other) {
    String[] ours = one.split("\\.", -1);
    String[] theirs = other.split("\\.", -1);
    for (int i = 0; i < Math.max(ours.length, theirs.length); i++) {
      int difference = Long.compare(
          i < ours.length ? Long.parseLong(ours[i]) : 0,
          i < theirs.length ? Long.parseLong(theirs[i]) : 0);
      if (difference != 0) {
        return difference;
      }
    }
    return 0;
  }

  private void configuration() throws IOException {
    Optional<Path> named = installation.configured("config").map(Path::of);
    Path file = named.orElse(Probe.MANAGED_FILE);
    if (!Files.exists(file)) {
      note("the configuration: there is no " + file
          + ", so that the environment alone configures the hook, and a repository can change it");
    }
    Probe probe;
    try {
      probe = Probe.load(places.environment(), named, installation.jar());
    } catch (IllegalArgumentException e) {
      bad("the configuration: " + e.getMessage());
      return;
    }
    good("the configuration: workspace " + probe.workspaceId() + ", governance at "
        + probe.governance());
    try {
      certificates(probe.certificate(), probe.readCertificates());
    } catch (IllegalArgumentException e) {
      bad("the certificates: " + e.getMessage());
      return;
    }
    if (governance(probe)) {
      canary();
    }
    approvals(probe);
  }

  private void certificates(Optional<String> file, Optional<Instant> end) {
    if (file.isEmpty() || end.isEmpty()) {
      note("the certificates: no client certificate is configured");
      return;
    }
    long days = Duration.between(Instant.now(), end.get()).toDays();
    String certificate = "the certificate " + file.get();
    if (days < DAYS) {
      bad(certificate + " ends in " + days + " days: get a new one");
    } else {
      good(certificate + ": " + days + " days left");
    }
  }

  private boolean governance(Probe probe) {
    boolean denied;
    try {
      denied = probe.isDenied(CANARY);
    } catch (IOException e) {
      bad("the governance service at " + probe.governance() + ": " + e.getMessage());
      return false;
    }
    good("the governance service answers");
    if (!denied) {
      bad("the policy does not deny the tool " + CANARY
          + ": add a rule that does, so that a denied call can be seen");
    }
    return denied;
  }

  private void approvals(Probe probe) {
    if (probe.approvals().isEmpty()) {
      note("the approval service: none is configured, what wants an approval is denied");
      return;
    }
    try {
      probe.askApprovals(CANARY);
      good("the approval service answers");
    } catch (IOException e) {
      bad("the approval service at " + probe.approvals().get() + ": " + e.getMessage());
    }
  }

  /** One call from end to end, as a host makes it. */
  private void canary() throws IOException {
    String event = "{\"session_id\":\"doctor\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\""
        + CANARY + "\",\"tool_input\":{}}";
    Said said = run(List.of(installation.launcher().toString(), "governance-check"), event);
    if (said.status() == 2 && !said.output().isBlank() && !said.output().contains(FAIL_CLOSED)) {
      good("a call of " + CANARY + " is denied");
    } else {
      bad("a call of " + CANARY + " ended with status " + said.status() + ": "
          + said.output().strip());
    }
  }

  private record Said(int status, String output) {}

  /** What a program says on standard error and output. */
  private Said run(List<String> command, String input) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().clear();
    builder.environment().putAll(places.environment());
    Process process = builder.start();
    try (OutputStream in = process.getOutputStream()) {
      in.write(input.getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      // It has ended without reading; its status says why.
    }
    try {
      if (!process.waitFor(PROGRAM_SECONDS, TimeUnit.SECONDS)) {
        throw new IOException(command.get(0) + " does not end");
      }
      return new Said(
          process.exitValue(),
          new String(process.getInputStream().readNBytes(10_000), StandardCharsets.UTF_8));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    } finally {
      process.destroyForcibly();
    }
  }
}
