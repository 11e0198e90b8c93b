package dev.evalops.runtime.testutil;

import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/** The one server per JVM, started when it is first asked for. */
final class Shared<T> implements Supplier<T> {
  private final ReentrantLock lock = new ReentrantLock();
  private final Supplier<T> starter;
  private @Nullable T server;

  Shared(Supplier<T> starter) {
    this.starter = starter;
  }

  @Override
  public T get() {
    lock.lock();
    try {
      if (server == null) {
        server = starter.get();
      }
      return server;
    } finally {
      lock.unlock();
    }
  }
}
