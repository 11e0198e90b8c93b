package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * The end of this process, by which the host learns whether the tool runs. It comes once, and by nothing but {@link
 * Runtime#halt}: an exit in order would wait for hooks and could be overtaken by a signal's.
 */
final class HookProcess {
  static final int DENY = 2;

  static final String NO_MEMORY = "evalops-agent-hook: blocked (fail closed): out of memory";
  private static final byte[] NO_MEMORY_TEXT = ascii(NO_MEMORY + "\n");
  private static final byte[] NO_MEMORY_LINE =
      ascii("{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\","
          + "\"permissionDecision\":\"deny\",\"permissionDecisionReason\":\"" + NO_MEMORY
          + "\"}}\n");

  /** How long an end that is under way, or a host that does not read, is waited for. */
  private static final long PATIENCE_MILLIS = 2000;

  private final OutputStream stdout = new FileOutputStream(FileDescriptor.out);
  private final OutputStream stderr = new FileOutputStream(FileDescriptor.err);
  private final AtomicBoolean ending = new AtomicBoolean();
  private final Deadline deadline = new Deadline();
  private volatile int denyStatus = DENY;
  private volatile @Nullable String secret;
  private volatile @Nullable DecisionLog log;

  /** From here on no exit status but ours reaches the host, and only our line its standard output. */
  void guard() {
    System.setOut(System.err);
    Runtime.getRuntime().addShutdownHook(new Thread("signal") {
      @Override
      public void run() {
        denyFromAside(Denial.FAIL_CLOSED + "ended by a signal");
      }
    });
    Thread watchdog = new Thread("deadline") {
      @Override
      public void run() {
        try {
          long seconds = deadline.await();
          denyFromAside(Denial.FAIL_CLOSED + "no decision within " + seconds + " s");
        } catch (Throwable e) { // nobody else would end a call that hangs
          denyWithoutMemory();
        }
      }
    };
    watchdog.setDaemon(true);
    deadline.watchedBy(watchdog);
    watchdog.start();
  }

  /** What the operator says of the whole call. */
  void use(Settings settings) {
    secret = settings.token();
    Path folder = settings.decisionLog();
    if (folder != null) {
      log = new DecisionLog(folder, System.getProperty("user.name", ""), settings.agentId());
    }
    deadline.shorten(settings.deadline());
  }

  /** By this status a launcher knows that the reason is written, and adds none. */
  void denyWith(int status) {
    denyStatus = status;
  }

  /** What the decision is about. */
  void judges(ToolUse toolUse) {
    DecisionLog decisions = log;
    if (decisions != null) {
      decisions.about(toolUse);
    }
  }

  /** The tool runs. */
  void allow(int status) {
    if (ending.compareAndSet(false, true)) {
      log("allow", "");
      Runtime.getRuntime().halt(status);
    }
    awaitOtherEnd();
  }

  /** The tool does not run. */
  void deny(String reason) {
    if (ending.compareAndSet(false, true)) {
      write(reason);
      Runtime.getRuntime().halt(denyStatus);
    }
    awaitOtherEnd();
  }

  /** The tool does not run; but perhaps there is no host, and a person waits at the terminal that we read from. */
  void usage(String text, Stdin stdin) {
    if (ending.compareAndSet(false, true)) {
      write(stderr, ascii(text + "\n"));
      runBriefly(new Thread("drain") {
        @Override
        public void run() {
          stdin.drain();
        }
      });
      Runtime.getRuntime().halt(DENY);
    }
    awaitOtherEnd();
  }

  /** The tool does not run; nothing is made for it that would need memory. */
  void denyWithoutMemory() {
    if (ending.compareAndSet(false, true)) {
      write(stderr, NO_MEMORY_TEXT);
      write(stdout, NO_MEMORY_LINE);
      Runtime.getRuntime().halt(DENY);
    }
    awaitOtherEnd();
  }

  /** As {@link #deny}, but ends also when the host does not read what we write. */
  private void denyFromAside(String reason) {
    if (ending.compareAndSet(false, true)) {
      int status = DENY;
      try {
        Thread lastWords = new Thread("last words") {
          @Override
          public void run() {
            write(reason);
          }
        };
        runBriefly(lastWords);
        status = lastWords.isAlive() ? DENY : denyStatus;
      } catch (OutOfMemoryError e) {
        write(stderr, NO_MEMORY_TEXT);
      } finally {
        Runtime.getRuntime().halt(status);
      }
    }
    awaitOtherEnd();
  }

  private static void runBriefly(Thread thread) {
    thread.setDaemon(true);
    thread.start();
    try {
      thread.join(PATIENCE_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt(); // the process ends with the next statement
    }
  }

  private static void awaitOtherEnd() {
    long end = System.nanoTime() + PATIENCE_MILLIS * 1_000_000;
    for (long left = end - System.nanoTime(); left > 0; left = end - System.nanoTime()) {
      LockSupport.parkNanos(left);
    }
    Runtime.getRuntime().halt(DENY);
  }

  private void write(String reason) {
    try {
      String shown = Reason.of(reason, secret);
      byte[] text = (shown + "\n").getBytes(UTF_8);
      byte[] line = Reason.hostLine(shown).getBytes(UTF_8);
      write(stderr, text);
      write(stdout, line);
      log("deny", shown);
    } catch (OutOfMemoryError e) {
      write(stderr, NO_MEMORY_TEXT);
      write(stdout, NO_MEMORY_LINE);
    }
  }

  private void log(String decision, String reason) {
    DecisionLog decisions = log;
    if (decisions != null) {
      decisions.append(decision, reason);
    }
  }

  private static void write(OutputStream out, byte[] bytes) {
    try {
      out.write(bytes);
    } catch (IOException e) {
      // Nobody listens there; the exit status speaks for itself.
    }
  }

  private static byte[] ascii(String text) {
    return HttpExchange.ascii(text);
  }
}
