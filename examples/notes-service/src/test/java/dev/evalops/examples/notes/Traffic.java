package dev.evalops.examples.notes;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.awaitility.Awaitility;

/** Clients that call again and again, until they are stopped or one of them fails. */
final class Traffic implements AutoCloseable {
  private static final Duration SOON = Duration.ofSeconds(60);

  private final ExecutorService clients = Executors.newVirtualThreadPerTaskExecutor();
  private final List<Future<?>> running = new ArrayList<>();
  private final AtomicInteger calls = new AtomicInteger();
  private volatile boolean stopping;

  /** Starts the clients; each call must throw when it did not go well. */
  Traffic(int many, Callable<?> call) {
    for (int i = 0; i < many; i++) {
      running.add(clients.submit(() -> {
        while (!stopping) {
          call.call();
          calls.incrementAndGet();
        }
        return null;
      }));
    }
  }

  /** Waits until as many further calls went well. */
  void awaitMore(int more) {
    int until = calls.get() + more;
    Awaitility.await()
        .atMost(SOON)
        .until(() -> calls.get() >= until || running.stream().anyMatch(Future::isDone));
  }

  /** Stops, and gives the number of calls; fails as the first client did that failed. */
  int stop() throws Exception {
    stopping = true;
    for (Future<?> client : running) {
      try {
        client.get(SOON.toSeconds(), TimeUnit.SECONDS);
      } catch (ExecutionException e) {
        throw e.getCause() instanceof Exception cause ? cause : e;
      }
    }
    return calls.get();
  }

  @Override
  public void close() {
    stopping = true;
    clients.close();
  }
}
