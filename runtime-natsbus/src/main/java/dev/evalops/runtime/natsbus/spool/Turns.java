package dev.evalops.runtime.natsbus.spool;

import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/** Lets the calls for one aggregate go one after the other, in the order in which they came. Thread-safe. */
final class Turns {
  private final ConcurrentHashMap<String, Turn> turns = new ConcurrentHashMap<>();

  /**
   * Waits for those that came before.
   *
   * @return the turn, to be closed by this thread; null if it did not come within the bound
   */
  @Nullable
  Turn take(String lane, Duration bound) throws InterruptedException {
    Turn turn = turns.compute(lane, (key, there) -> {
      Turn joined = there == null ? new Turn(key) : there;
      joined.users++;
      return joined;
    });
    boolean taken = false;
    try {
      taken = turn.lock.tryLock(bound.toNanos(), TimeUnit.NANOSECONDS);
      return taken ? turn : null;
    } finally {
      if (!taken) {
        leave(turn);
      }
    }
  }

  private void leave(Turn turn) {
    turns.computeIfPresent(turn.lane, (key, there) -> --there.users == 0 ? null : there);
  }

  /** The lanes of which somebody has the turn. */
  Set<String> taken() {
    Set<String> taken = new HashSet<>();
    turns.forEach((lane, turn) -> {
      if (turn.lock.isLocked()) {
        taken.add(lane);
      }
    });
    return taken;
  }

  final class Turn implements AutoCloseable {
    private final String lane;
    private final ReentrantLock lock = new ReentrantLock(true);
    private int users; // guarded by the map

    private Turn(String lane) {
      this.lane = lane;
    }

    @Override
    public void close() {
      lock.unlock();
      leave(this);
    }
  }
}
