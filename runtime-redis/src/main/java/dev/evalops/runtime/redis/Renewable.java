package dev.evalops.runtime.redis;

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
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A connection that can be made anew without failing a command. It sends {@code QUIT}: the server answers what was sent
 * before, and closes. What comes later is held back until Lettuce has connected again, or has not after all. A
 * connection in a transaction is left alone until that has ended.
 */
final class Renewable {
  private static final long RECONNECT_SECONDS = 2;

  private final Renewals renewals;
  private final BooleanSupplier isOpen;
  private final Consumer<RedisCommand<String, String, String>> send;
  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock(); // shared by who writes
  private final Deque<Runnable> held = new ArrayDeque<>();
  private volatile boolean holding;
  private volatile boolean inTransaction;
  private volatile boolean waitsForTransaction;
  private volatile long madeWith;
  private long renewal; // its number, so that the time limit of one does not end the next

  /**
   * Makes one.
   *
   * @param send sends a command without asking this
   */
  Renewable(
      Renewals renewals,
      BooleanSupplier isOpen,
      Consumer<RedisCommand<String, String, String>> send) {
    this.renewals = renewals;
    this.isOpen = isOpen;
    this.send = send;
    this.madeWith = renewals.latest();
  }

  boolean isOlderThan(long version) {
    return madeWith < version && isOpen.getAsBoolean();
  }

  /** Writes commands now or later, in the order of the calls. */
  void write(Collection<? extends RedisCommand<?, ?, ?>> commands, Runnable now) {
    if (isWritten(commands, now)) {
      if (waitsForTransaction && !inTransaction) {
        renew();
      }
      return;
    }
    lock.writeLock().lock();
    try {
      if (holding) {
        held.add(() -> {
          commands.forEach(this::follow);
          now.run();
        });
        return;
      }
    } finally {
      lock.writeLock().unlock();
    }
    write(commands, now);
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
      if (holding || inTransaction) {
        return;
      }
      holding = true;
      mine = ++renewal;
      send.accept(quit);
    } finally {
      lock.writeLock().unlock();
    }
    var unused = quit.whenComplete((answer, failure) ->
        renewals.later(() -> release(mine), RECONNECT_SECONDS, TimeUnit.SECONDS));
  }

  void disconnected() {
    madeWith = renewals.latest(); // the login that follows reads it anew
    inTransaction = false;
  }

  void connected() {
    release();
  }

  private void release(long ofRenewal) {
    lock.writeLock().lock();
    try {
      if (ofRenewal == renewal) {
        release();
      }
    } finally {
      lock.writeLock().unlock();
    }
  }

  private void release() {
    lock.writeLock().lock();
    try {
      for (@Nullable Runnable each = held.poll(); each != null; each = held.poll()) {
        each.run();
      }
      holding = false;
    } finally {
      lock.writeLock().unlock();
    }
  }
}
