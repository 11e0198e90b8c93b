package dev.evalops.hook;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/** The run of which a start-up cache is made: two calls as a host makes them, one over mTLS and one over http. */
final class Rehearsal {
  private Rehearsal() {}

  /**
   * Makes the calls, which are allowed.
   *
   * @param args the event, the configuration of the call over mTLS, that of the call over http and the status that it
   *     ends with; without arguments nothing happens, which shows that a JVM can start
   */
  public static void main(String[] args) throws Denial, IOException, InterruptedException {
    if (args.length == 0) {
      return;
    }
    byte[] event = Files.readAllBytes(Path.of(args[0]));
    Path program = Path.of(System.getProperty("java.class.path"));
    TlsWarmUp warmUp = new TlsWarmUp();
    warmUp.start();
    warmUp.join();
    Settings settings = Settings.load(Map.of(), ManagedFile.named(Path.of(args[1]), program));
    ToolUse toolUse = ToolUse.parse(event, event.length);
    for (Curl curl : Arrays.asList(Curl.of(settings), null)) {
      Verdict verdict = GovernanceCheck.of(settings, curl, toolUse, Tickets.ofUser());
      if (!verdict.isAllowed()) {
        throw new IllegalStateException(verdict.reason());
      }
    }
    Reason.hostLine(Reason.of("a reason", settings.token()));
    AgentHook.main(
        new String[] {"governance-check", "--allow-exit-code", args[3], "--config", args[2]});
  }
}
