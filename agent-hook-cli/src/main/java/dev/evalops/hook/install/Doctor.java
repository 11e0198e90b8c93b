package dev.evalops.hook.install;

import dev.evalops.hook.Probe;
import java.io.IOException;
import java.io.PrintStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** Finds what keeps the hook from being asked, or from answering: one line for each finding, with what to do. */
final class Doctor {
  private static final String USAGE = "usage: evalops-agent-hook doctor [--json]";
  static final String CANARY = "evalops-doctor-canary";

  private static final String FAIL_CLOSED = "blocked (fail closed): ";
  private static final int DAYS = 7;

  private final Installation installation;
  private final Host.Places places;
  private final PrintStream out;
  private @Nullable String java;
  private @Nullable String cache;
  private boolean json;
  private boolean asked;
  private boolean healthy = true;
  private final List<String> findings = new ArrayList<>();

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
    for (int i = 0; i < args.size(); i++) {
      String value = i + 1 < args.size() ? args.get(i + 1) : null;
      switch (args.get(i)) {
        case "--json" -> json = true;
        case "--java" -> {
          i++;
          java = value;
        }
        case "--cache" -> {
          i++;
          cache = value;
        }
        default -> {
          err.println(USAGE);
          return 2;
        }
      }
    }
    examine("the program", this::program);
    examine("Java", this::java);
    examine("start-up cache", this::cache);
    examine("the service", this::service);
    examine("the configuration", this::configuration);
    for (Host host : Host.values()) {
      examine(host.title(), () -> host(host));
    }
    if (!asked) {
      bad(
          "no host asks the hook: run evalops-agent-hook install --host claude, or for another host");
    }
    if (json) {
      out.println(
          "{\"healthy\":" + healthy + ",\"findings\":[" + String.join(",", findings) + "]}");
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
    tell("ok", finding);
  }

  private void bad(String finding) {
    healthy = false;
    tell("WRONG", finding);
  }

  private void note(String finding) {
    tell("note", finding);
  }

  private void tell(String level, String finding) {
    if (json) {
      findings.add("{\"level\":\"" + level.toLowerCase(Locale.ROOT) + "\",\"finding\":"
          + JsonDocument.quote(finding) + "}");
    } else {
      out.printf("%-5s %s%n", level, finding);
    }
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
      bad("Java: " + running + ", but its path is not in " + installation.conf()
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
      note("start-up cache: not checked, because the launcher did not start doctor");
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

  private void service() throws IOException {
    Optional<Path> socket = installation.configured("service").map(Path::of);
    if (socket.isEmpty()) {
      note(
          "the service: none is installed, so that the agent can read the token and the key; see install --service");
      return;
    }
    try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX)) {
      channel.connect(UnixDomainSocketAddress.of(socket.get()));
      good("the service listens at " + socket.get());
    } catch (IOException e) {
      bad("the service: nobody listens at " + socket.get()
          + ", so that each call starts a JVM: start it, see install --service");
    }
    Path file = installation.managedFile();
    if (Files.exists(file)
        && Files.getPosixFilePermissions(file).contains(PosixFilePermission.OTHERS_READ)) {
      bad("the service: every user can read " + file + ", and with it the token: chgrp "
          + ServiceUnits.USER + " " + file + "; chmod 640 " + file);
    }
  }

  /** Whether the configuration is that of the service, and nobody else's business. */
  private boolean onlyTheServiceKnows() throws IOException {
    return installation.configured("service").isPresent()
        && Files.exists(installation.managedFile())
        && !Files.isReadable(installation.managedFile());
  }

  private void host(Host host) throws IOException, NotUnderstoodException {
    Optional<Path> program = places.program(host.option());
    Optional<String> version = program.isEmpty()
        ? Optional.empty()
        : Programs.version(program.get(), places.environment());
    boolean managed = entry(host, true, version);
    boolean ofUser = host.hasUserSettings() && entry(host, false, version);
    asked |= managed || ofUser;
    if (program.isEmpty()) {
      if (managed || ofUser) {
        note(host.title()
            + ": its program is not on the path, so its version was not checked and no call was "
            + "made through it");
      }
      return;
    }
    if (!managed && !ofUser) {
      bad(host.title()
          + " is on this machine and does not ask the hook: run evalops-agent-hook install --host "
          + host.option() + (host.hasUserSettings() ? "" : " --managed"));
    }
    if (version.isEmpty()) {
      note(host.title() + ": its version is unknown");
      return;
    }
    if (Programs.isOlder(version.get(), host.oldest())) {
      bad(host.title() + " " + version.get() + " runs tools although the hook fails: use "
          + host.oldest() + " or later");
      return;
    }
    good(host.title() + " " + version.get());
    if (!managed && !ofUser) {
      return;
    }
    if (host == Host.CODEX) {
      trust(host, program.get());
    }
    if (host.hasUserSettings()) {
      call(host, program.get(), managed);
    } else {
      note(host.title() + ": let it call a tool that the policy denies, and see it denied");
    }
    host.leavesOpen().ifPresent(this::note);
  }

  /** Whether there is an entry, which may be wrong. */
  private boolean entry(Host host, boolean managed, Optional<String> version)
      throws IOException, NotUnderstoodException {
    Path file = host.file(managed, places);
    // A version that nobody knows may be one that asks, and one that is too old anyway has more to
    // be told.
    boolean skillsAsk = version
        .filter(v -> Programs.isOlder(v, Host.SKILLS_ASK) && !Programs.isOlder(v, host.oldest()))
        .isEmpty();
    List<String> problems;
    try {
      String text = SettingsFile.read(file).text();
      if (!text.contains(HostSettings.NAME)) {
        return false;
      }
      List<String> dropIns = new ArrayList<>();
      for (Path dropIn : host.dropIns(managed, places)) {
        dropIns.add(SettingsFile.read(dropIn).text());
      }
      problems = host.settings(managed, installation, skillsAsk)
          .problems(text, dropIns, host.command(installation));
    } catch (NotUnderstoodException e) {
      bad(host.title() + ": " + file + " cannot be judged: " + e.getMessage());
      return false;
    }
    problems.forEach(problem -> bad(host.title() + ": " + file
        + (managed && host == Host.CLAUDE ? " with managed-settings.d" : "") + ": " + problem
        + "; run evalops-agent-hook install --host " + host.option()
        + (managed ? " --managed" : "")));
    if (managed) {
      managed(host, file);
    }
    if (problems.isEmpty()) {
      good(host.title() + ": " + file);
      if (!managed) {
        note(
            host.title()
                + ": a user or a repository can switch this entry off; install --managed cannot be undone by them");
      }
    }
    return true;
  }

  /** What must hold besides for an entry that nobody shall be able to undo. */
  private void managed(Host host, Path file) throws IOException {
    for (String problem : installation.unmanaged()) {
      bad(host.title() + ", managed: " + problem);
    }
    if (!Installation.isRoot(file)) {
      bad(host.title() + ": " + file + " does not belong to root: chown root " + file);
    }
    List<String> unreadable = new ArrayList<>(Installation.unreadable(places.root(), file));
    for (Path dropIn : host.dropIns(true, places)) {
      unreadable.addAll(Installation.unreadable(places.root(), dropIn));
    }
    unreadable.addAll(installation.unusable());
    unreadable.stream().distinct().forEach(problem -> bad(host.title() + ", managed: " + problem));
    if (onlyTheServiceKnows()) {
      return;
    }
    try {
      Probe probe =
          Probe.load(Map.of(), installation.configured("config").map(Path::of), installation.jar());
      if (!probe.ignoresEnvironment() && installation.configured("service").isEmpty()) {
        bad(host.title() + ", managed: a repository can set what " + installation.managedFile()
            + " does not, such as the agent's id: write EVALOPS_IGNORE_ENVIRONMENT=true into it");
      }
    } catch (IllegalArgumentException e) {
      bad(host.title()
          + ", managed: without the environment, which a repository can change, the hook is not configured: "
          + e.getMessage() + "; write it into " + installation.managedFile());
    }
  }

  private void call(Host host, Path program, boolean managed) {
    String call = host.title() + ": a call through it";
    Optional<Path> settings = managed ? Optional.empty() : Optional.of(host.file(false, places));
    try {
      Optional<String> reason = HostCanary.call(host, program, places, settings);
      if (reason.isEmpty()) {
        bad(call + " is run without asking the hook");
      } else if (reason.get().startsWith(FAIL_CLOSED)) {
        bad(call + " is " + reason.get());
      } else {
        good(call + " is denied");
      }
    } catch (IOException e) {
      note(call + " could not be made: " + e.getMessage()
          + "; let it call a tool that the policy denies, and see it denied");
    }
  }

  private void trust(Host host, Path program) throws IOException, NotUnderstoodException {
    List<String> problems =
        CodexTrust.problems(program, places.environment(), host.command(installation));
    problems.forEach(this::bad);
    if (problems.isEmpty()) {
      good(host.title() + " trusts the hook");
    }
  }

  private void configuration() throws IOException {
    Optional<Path> named = installation.configured("config").map(Path::of);
    Path file = installation.managedFile();
    if (onlyTheServiceKnows()) {
      note("the configuration: this user cannot read " + file + "; as root doctor tells more");
      canary();
      return;
    }
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
    probe
        .decisionLog()
        .filter(folder -> !Files.isDirectory(folder) || !Files.isWritable(folder))
        .ifPresent(
            folder -> bad("the log of decisions: " + folder + " is no folder that can be written"));
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
      bad(certificate + " expires in " + days + " days: renew it");
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
    Programs.Said said = Programs.run(
        List.of(installation.launcher().toString(), "governance-check"),
        places.environment(),
        event);
    if (said.status() == 2 && !said.output().isBlank() && !said.output().contains(FAIL_CLOSED)) {
      good("a call of " + CANARY + " is denied");
    } else {
      bad("a call of " + CANARY + " ended with status " + said.status() + ": "
          + said.output().strip());
    }
  }
}
