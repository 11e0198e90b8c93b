package dev.evalops.runtime.natsbus;

import io.nats.client.impl.NatsServerPool;
import io.nats.client.support.NatsUri;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * The servers of a connection that outlives refused logins. The client closes a connection for good when a server refuses the login
 * for the second time in an outage, and has no option against that: it keeps who has refused in a hash map, by URI. So each attempt to
 * reconnect gets a URI with a hash code of its own, under which that map has nothing. The URIs of a server stay equal to each other,
 * by which the client knows that it has been round, and waits.
 *
 * <p>What that map takes up, half a kilobyte for each refusal and some 6 MB in a day of them, is freed by the next login. The first
 * connecting does not come by here: a refusal ends it. Thread-safe.
 */
final class PatientServers extends NatsServerPool {
  private final AtomicInteger attempts = new AtomicInteger();

  @Override
  public @Nullable NatsUri nextServer() {
    NatsUri next = super.nextServer();
    if (next == null) {
      return null;
    }
    try {
      return new Attempt(next.getUri(), attempts.incrementAndGet());
    } catch (URISyntaxException impossible) { // it was one before
      return next;
    }
  }

  private static final class Attempt extends NatsUri {
    private final int number;

    Attempt(URI uri, int number) throws URISyntaxException {
      super(uri);
      this.number = number;
    }

    @Override
    public NatsUri reHost(String address) throws URISyntaxException {
      return new Attempt(super.reHost(address).getUri(), number);
    }

    @Override
    public int hashCode() {
      return number;
    }
  }
}
