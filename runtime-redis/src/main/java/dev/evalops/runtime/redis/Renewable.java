package dev.evalops.runtime.redis;

import io.lettuce.core.RedisChannelHandler;
import io.lettuce.core.RedisException;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.protocol.AsyncCommand;
import io.lettuce.core.protocol.Command;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.protocol.RedisCommand;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Deque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A connection that can be replaced without failing a command. It sends {@code QUIT}: the server answers what was sent
 * before, and closes. What comes later is held back until Lettuce has connected again, or has not after all. A
 * connection in a transaction is left alone until that has ended. Where {@code QUIT} gets no answer while something is
 * held back, or the server does not close, the connection is cut.
 *
 * <p>Lettuce tells of its connections under a lock that those who write want too, so what it tells takes none here.
 */
final class Renewable {
  private static final long RECONNECT_SECONDS = 2;

  private final Renewals renewals;
  private final RedisChannelHandler<?, ?> connection;
  private final Consumer<RedisCommand<String, String, String>> send;
  private final Runnable cut;
  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock(); // shared by who writes
  private final Deque<Held> held = new ArrayDeque<>();
  private int heldCommands;
  private volatile boolean holding;
  private volatile boolean left; // the connection that QUIT was sent to
  private volatile boolean inTransaction;
  private volatile boolean waitsForTransaction;
  private volatile long madeWith;
  private long renewal; // its number, so that the time limit of one does not end the next

  private record Held(Collection<? extends RedisCommand<?, ?, ?>> commands, Runnable write) {}

  /**
   * Makes one.
   *
   * @param send sends a command without asking this
   * @param cut closes what is connected at the moment
   */
  Renewable(
      Renewals renewals,
      RedisChannelHandler<?, ?> connection,
      Consumer<RedisCommand<String, String, String>> send,
      Runnable cut) {
    this.renewals = renewals;
    this.connection = connection;
    this.send = send;
    this.cut = cut;
    this.madeWith = renewals.latest();
  }

  boolean isOlderThan(long version) {
    return madeWith < version && connection.isOpen();
  }

  /** Writes commands now or later, in the order of the calls. */
  void write(Collection<? extends RedisCommand<?, ?, ?>> commands, Runnable now) {
    while (!isWritten(commands, now)) {
      if (isHeld(commands, now)) {
        return;
      }
    }
    if (waitsForTransaction && !inTransaction) {
      waitsForTransaction = false;
      renewals.later(this::renew, 0); // this may be a call within a call, which shares the lock
    }
  }

  private boolean isWritten(Collection<? extends RedisCommand<?, ?, ?>> commands, Runnable now) {
    lock.readLock().lock();
    try {
      if (!holding) {
        commands.forEach(this::follow);
        now.run();
        return true;
      }
      return false;
    } finally {
      lock.readLock().unlock();
    }
  }

  private boolean isHeld(Collection<? extends RedisCommand<?, ?, ?>> commands, Runnable now) {
    lock.writeLock().lock();
    try {
      if (!holding) {
        return false;
      }
      if (heldCommands + commands.size() <= renewals.queueSize()) {
        heldCommands += commands.size();
        held.add(new Held(commands, now));
        return true;
      }
    } finally {
      lock.writeLock().unlock();
    }
    reject(commands, "Request queue size exceeded while the connection is replaced");
    return true;
  }

  private static void reject(Collection<? extends RedisCommand<?, ?, ?>> commands, String why) {
    commands.forEach(each -> each.completeExceptionally(new RedisException(why)));
  }

  private void follow(RedisCommand<?, ?, ?> command) {
    ProtocolKeyword type = command.getType();
    if (type == CommandType.MULTI || type == CommandType.WATCH) {
      inTransaction = true;
    } else if (type == CommandType.EXEC
        || type == CommandType.DISCARD
        || type == CommandType.UNWATCH) {
      inTransaction = false;
    }
  }

  /** Begins, unless it has begun; in a transaction, once that has ended. */
  void renew() {
    AsyncCommand<String, String, String> quit =
        new AsyncCommand<>(new Command<>(CommandType.QUIT, new StatusOutput<>(StringCodec.UTF8)));
    long mine;
    lock.writeLock().lock();
    try {
      waitsForTransaction = inTransaction;
      if (holding || inTransaction || connection.isClosed()) {
        return;
      }
      holding = true;
      left = false;
      mine = ++renewal;
      send.accept(quit);
    } finally {
      lock.writeLock().unlock();
    }
    var unused = quit.whenComplete((answer, failure) -> {
      if (failure == null) {
        renewals.later(() -> end(mine, true), TimeUnit.SECONDS.toNanos(RECONNECT_SECONDS));
      } else {
        renewals.later(() -> end(mine, false), 0); // there is nothing to be behind of
      }
    });
    endIfUnanswered(quit, mine);
  }

  /** A blocking command on its own is waited for. */
  private void endIfUnanswered(AsyncCommand<String, String, String> quit, long mine) {
    renewals.later(
        () -> {
          if (quit.isDone()) {
            return;
          }
          if (isAnythingHeld()) {
            end(mine, true);
          } else {
            endIfUnanswered(quit, mine);
          }
        },
        renewals.withinNanos());
  }

  private boolean isAnythingHeld() {
    lock.readLock().lock();
    try {
      return !held.isEmpty();
    } finally {
      lock.readLock().unlock();
    }
  }

  void disconnected() {
    madeWith = renewals.latest(); // the login that follows reads it again
    inTransaction = false;
    waitsForTransaction = false;
    left = true;
  }

  void connected() {
    if (holding) {
      renewals.later(this::release, 0);
    }
  }

  private void end(long ofRenewal, boolean isBehindQuit) {
    lock.writeLock().lock();
    try {
      if (ofRenewal == renewal && holding) {
        if (isBehindQuit && !left) {
          cut.run();
        }
        release();
      }
    } finally {
      lock.writeLock().unlock();
    }
  }

  /** Writes what was held back, or rejects it if the connection was closed for good. */
  void release() {
    lock.writeLock().lock();
    try {
      for (@Nullable Held each = held.poll(); each != null; each = held.poll()) {
        if (connection.isClosed()) {
          reject(each.commands(), "Connection is closed");
        } else {
          each.commands().forEach(this::follow);
          each.write().run();
        }
      }
      heldCommands = 0;
      holding = false;
    } finally {
      lock.writeLock().unlock();
    }
  }
}
