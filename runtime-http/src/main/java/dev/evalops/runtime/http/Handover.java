package dev.evalops.runtime.http;

import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.locks.LockSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Takes tasks from the server's dispatcher and starts them from a thread of its own. On one processor each virtual
 * thread that the dispatcher itself starts takes the processor away from it; so it finds one request at a time where
 * many are waiting. A thread between them is woken once for all that the dispatcher has found.
 */
final class Handover implements Executor, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(HttpService.class);

  private final Executor executor;
  private final Queue<Runnable> tasks = new ConcurrentLinkedQueue<>();
  private final Thread thread;
  private volatile boolean idle;
  private volatile boolean closed;

  /** Tasks are started on the executor, which must not block. */
  Handover(Executor executor) {
    this.executor = executor;
    this.thread = Thread.ofPlatform().daemon().name("http-handover").start(this::run);
  }

  @Override
  public void execute(Runnable task) {
    tasks.add(task);
    wake();
  }

  /** Ends the thread when it has started what is waiting. */
  @Override
  public void close() {
    closed = true;
    wake();
  }

  private void wake() {
    if (idle) {
      idle = false;
      LockSupport.unpark(thread);
    }
  }

  private void run() {
    while (true) {
      Runnable task = tasks.poll();
      if (task != null) {
        start(task);
        continue;
      }
      if (closed) {
        return;
      }
      idle = true;
      if (tasks.isEmpty() && !closed) {
        LockSupport.park(this);
      }
      idle = false;
    }
  }

  private void start(Runnable task) {
    try {
      executor.execute(task);
    } catch (RejectedExecutionException e) {
      // The service has stopped and its connections are closed.
    } catch (Throwable e) { // An Error must not end the only thread that starts requests.
      LOG.atError().setCause(e).log("http request could not be started");
    }
  }
}
