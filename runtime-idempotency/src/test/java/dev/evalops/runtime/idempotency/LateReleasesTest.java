package dev.evalops.runtime.idempotency;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.idempotency.IdempotencyStore.Claim;
import java.time.Duration;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

class LateReleasesTest {
  private final AtomicInteger calls = new AtomicInteger();
  private final LinkedBlockingQueue<Claim> released = new LinkedBlockingQueue<>();

  /** One that is broken at the first call. */
  private final class Store implements IdempotencyStore {
    @Override
    public Decision begin(Attempt attempt) {
      throw new UnsupportedOperationException();
    }

    @Override
    public boolean complete(Claim claim, StoredResponse response) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void release(Claim claim) {
      if (calls.incrementAndGet() == 1) {
        throw new NoClassDefFoundError("Driver");
      }
      released.add(claim);
    }

    @Override
    public int sweep(int limit) {
      throw new UnsupportedOperationException();
    }
  }

  @Test
  void goesOn_whateverTheStoreThrows() throws InterruptedException {
    Claim claim = new Claim("scope", "key", 1);
    LateReleases late = new LateReleases(new Store(), Duration.ofMinutes(10));

    late.add(claim);

    assertThat(released.poll(20, TimeUnit.SECONDS)).isEqualTo(claim);
  }
}
