package dev.evalops.hook;

import java.util.HashMap;
import java.util.Map;

/**
 * The memory for large events in a process that has several at once. Thread-safe.
 *
 * <p>The requests that are made of an event take several times its size, so the limit for all is a small part of the
 * heap of 256 MiB; that of a user is just the longest event.
 * The limits count the bytes of the event, not what its JSON becomes.
 */
final class EventBudget {
  private static final long MAX_OF_A_USER = Stdin.LIMIT + 1L;
  private static final long MAX = 12L << 20;

  private final Map<String, Long> taken = new HashMap<>();

  /** What one event takes; to be closed when its call ends, by the thread that has read it. */
  final class Share implements AutoCloseable {
    private final String user;
    private long bytes;

    private Share(String user) {
      this.user = user;
    }

    /** Takes so many bytes more. */
    void take(long more) throws Denial {
      if (!EventBudget.this.take(user, more)) {
        throw Denial.failClosed("read_stdin: too many large inputs at once");
      }
      bytes += more;
    }

    @Override
    public void close() {
      give(user, bytes);
      bytes = 0;
    }
  }

  /** The share of an event of this user; it has nothing yet. */
  Share share(String user) {
    return new Share(user);
  }

  private synchronized boolean take(String user, long more) {
    long all = taken.values().stream().mapToLong(Long::longValue).sum();
    long own = taken.getOrDefault(user, 0L);
    if (all + more > MAX || own + more > MAX_OF_A_USER) {
      return false;
    }
    taken.put(user, own + more);
    return true;
  }

  private synchronized void give(String user, long bytes) {
    taken.computeIfPresent(user, (name, own) -> own == bytes ? null : own - bytes);
  }
}
