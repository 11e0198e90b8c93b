package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DecisionLogTest {
  private static final int THREADS = 8;

  @TempDir
  private Path folder;

  @Test
  void losesNothing_whenManyFindTheFileFull() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(THREADS);
    try {
      for (int round = 0; round < 100; round++) {
        Path log =
            Files.writeString(folder.resolve("agent-hook-ann.jsonl"), "x".repeat(1 << 20) + "\n");
        CountDownLatch together = new CountDownLatch(THREADS);
        Callable<Void> append = () -> {
          together.countDown();
          together.await();
          new DecisionLog(folder, "ann", "ci").append("allow", "");
          return null;
        };
        for (Future<Void> appended : threads.invokeAll(Collections.nCopies(THREADS, append))) {
          appended.get();
        }
        Path old = folder.resolve("agent-hook-ann.jsonl.1");
        assertThat(Files.size(old)).as("round %d", round).isGreaterThan(1 << 20);
        assertThat(Files.readAllLines(old).size() - 1 + Files.readAllLines(log).size())
            .as("round %d", round)
            .isEqualTo(THREADS);
      }
    } finally {
      threads.shutdownNow();
    }
  }
}
