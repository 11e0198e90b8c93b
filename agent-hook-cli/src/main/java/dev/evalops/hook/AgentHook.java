package dev.evalops.hook;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.nio.file.Path;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The program {@code evalops-agent-hook}: asks the governance service whether a tool call may run, and says so to the
 * coding agent that has started it.
 *
 * <p>{@code governance-check} reads the call from standard input. It ends with status 0 (or the one that {@code
 * --allow-exit-code} names) and prints nothing when the service allows the call; whatever else happens, it ends with
 * status 2 and a reason on standard error.
 */
public final class AgentHook {
  private AgentHook() {}

  /**
   * Checks one call and ends the process.
   *
   * @param args the command and its options
   */
  public static void main(String[] args) {
    HookProcess process = null;
    Stdin stdin = null;
    try {
      process = new HookProcess();
      stdin = new Stdin(new FileInputStream(FileDescriptor.in));
      process.guard();
      run(args, process, stdin);
    } catch (Throwable e) { // whatever it is, the tool must not run
      fail(e, process, stdin);
    } finally {
      Runtime.getRuntime().halt(HookProcess.DENY);
    }
  }

  private static void run(String[] args, HookProcess process, Stdin stdin) {
    Command command = Command.parse(args);
    if (command == null) {
      process.usage(Command.USAGE, stdin);
      return;
    }
    process.denyWith(command.denyStatus());
    Path program = Path.of(System.getProperty("java.class.path", ""));
    Verdict verdict = governanceCheck(
        System.getenv(), command.managedFile(program), Tickets.ofUser(), stdin, process);
    if (verdict == Verdict.ALLOW) {
      process.allow(command.allowStatus());
    }
    process.deny(verdict.reason());
  }

  static Verdict governanceCheck(
      Map<String, String> environment,
      ManagedFile file,
      Tickets tickets,
      Stdin stdin,
      HookProcess process) {
    Settings settings = null;
    Curl curl = null;
    Denial problem = null;
    try {
      settings = Settings.load(environment, file);
      process.use(settings);
      curl = Curl.of(settings);
      if (settings.usesTls() && curl == null) {
        new TlsWarmUp().start();
      }
    } catch (Denial e) {
      problem = e; // told when the host has got rid of its input
    }
    try {
      stdin.read();
      if (settings == null || problem != null) {
        return Verdict.deny(problem == null ? "" : problem.reason());
      }
      ToolUse toolUse = ToolUse.parse(stdin.bytes(), stdin.length());
      process.judges(toolUse);
      return GovernanceCheck.of(settings, curl, toolUse, tickets);
    } catch (Denial e) {
      stdin.drain();
      return Verdict.deny(problem == null ? e.reason() : problem.reason());
    }
  }

  /** Written for the case that next to nothing works any more. */
  private static void fail(
      Throwable failure, @Nullable HookProcess process, @Nullable Stdin stdin) {
    if (process == null || stdin == null) {
      System.err.println(HookProcess.NO_MEMORY);
      return;
    }
    try {
      stdin.drain();
      if (!(failure instanceof OutOfMemoryError)) {
        process.deny(Denial.FAIL_CLOSED + "unexpected " + failure.getClass().getSimpleName());
      }
    } catch (Throwable again) {
      // The next line needs no memory.
    }
    process.denyWithoutMemory();
  }
}
