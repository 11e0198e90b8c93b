package dev.evalops.hook;

import dev.evalops.runtime.mtls.ClientTls;
import java.io.InputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The check in a process that stays. Its configuration is the managed file alone, which each call reads again, so that
 * a change counts at once; TLS stays warm. Thread-safe.
 */
public final class ResidentCheck {
  private static final Duration CERTIFICATES_EVERY = Duration.ofSeconds(10);

  private final ManagedFile file;
  private final Path tickets;
  private final Duration certificatesEvery;
  private final EventBudget budget = new EventBudget();
  private final ReentrantLock lock = new ReentrantLock();
  private Settings.@Nullable Tls files;
  private @Nullable ClientTls tls;

  /** With another period in which changed certificates are noticed. */
  ResidentCheck(ManagedFile file, Path tickets, Duration certificatesEvery) {
    this.file = file;
    this.tickets = tickets;
    this.certificatesEvery = certificatesEvery;
  }

  /**
   * Returns a check.
   *
   * @param file the managed file that the installation names; empty for the one at the usual place
   * @param program the jar, whose owner may own that file
   * @param tickets a folder that nobody else can write, for approvals that are not used yet; it need not be there
   * @return the check; nothing is read yet
   */
  public static ResidentCheck of(Optional<Path> file, Path program, Path tickets) {
    return new ResidentCheck(
        file.map(named -> ManagedFile.named(named, program)).orElseGet(ManagedFile::usual),
        tickets,
        CERTIFICATES_EVERY);
  }

  /**
   * Decides about one tool call. Takes as long as the timeouts of the configuration together at most, once the event is
   * there. A large event is denied while other calls hold the memory that is set aside for large ones.
   *
   * @param event as the host wrote it, read to its end
   * @param caller the user who calls, by the word of the system
   * @return the verdict; its reason is fit to be shown
   */
  public Verdict check(InputStream event, String caller) {
    try (EventBudget.Share share = budget.share(caller)) {
      return check(new Stdin(event, share), caller);
    }
  }

  private Verdict check(Stdin stdin, String caller) {
    Settings settings = null;
    DecisionLog log = null;
    Verdict verdict;
    try {
      stdin.read();
      settings = Settings.load(Map.of(), file);
      Path folder = settings.decisionLog();
      log = folder == null ? null : new DecisionLog(folder, caller, settings.agentId());
      ToolUse toolUse = ToolUse.parse(stdin.bytes(), stdin.length());
      if (log != null) {
        log.about(toolUse);
      }
      verdict =
          GovernanceCheck.over(tls(settings), settings, toolUse, new Tickets(tickets, caller));
    } catch (Denial e) {
      stdin.drain();
      verdict = Verdict.deny(e.reason());
    }
    if (!verdict.isAllowed()) {
      String secret = settings == null ? null : settings.token();
      verdict = Verdict.deny(Reason.of(verdict.reason(), secret));
    }
    if (log != null) {
      log.append(
          verdict.isAllowed() ? "allow" : "deny", verdict.isAllowed() ? "" : verdict.reason());
    }
    return verdict;
  }

  private @Nullable ClientTls tls(Settings settings) throws Denial {
    lock.lock();
    try {
      ClientTls old = tls;
      if (old == null || !settings.tls().equals(files)) {
        tls = GovernanceCheck.mtls(settings, certificatesEvery);
        files = settings.tls();
        if (old != null) {
          old.close(); // calls that are under way keep their connections
        }
      }
      return tls;
    } finally {
      lock.unlock();
    }
  }
}
