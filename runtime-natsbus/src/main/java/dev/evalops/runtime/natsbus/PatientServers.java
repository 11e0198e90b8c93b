package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Rotation;
import io.nats.client.impl.NatsServerPool;
import io.nats.client.support.NatsUri;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * The servers of a connection that outlives refused logins. The client closes a connection for good when a server
 * refuses the login for the second time in an outage, and has no option against that: it keeps who has refused in a
 * hash map, by URI. So each attempt to reconnect gets a URI with a hash code of its own, under which that map has
 * nothing. The URIs of a server stay equal to each other, by which the client knows that it has been round, and waits.
 *
 * <p>What that map takes up, half a kilobyte for each refusal and some 6 MB in a day of them, is freed by the next
 * login. A refusal ends the first connecting all the same, for that tries each server once.
 *
 * <p>Where the credentials may change, each attempt has those of the moment in its URI, for the client takes a password
 * nowhere else at each login. Thread-safe.
 */
final class PatientServers extends NatsServerPool {
  /** The client waits between two attempts that fail, and not after a login that was good and is lost at once. */
  private static final long AFTER_LOGIN_MILLIS = 500;

  private final AtomicInteger attempts = new AtomicInteger();
  private final @Nullable Rotation<Secret> rotation;
  private volatile long loggedInWith;
  private volatile long loggedInAt = System.nanoTime() - TimeUnit.DAYS.toNanos(1);

  PatientServers(@Nullable Rotation<Secret> rotation) {
    this.rotation = rotation;
  }

  /** The version of the secret of the last good login, 0 before the first. */
  long loggedInWith() {
    return loggedInWith;
  }

  @Override
  public @Nullable NatsUri peekNextServer() {
    return attempt(super.peekNextServer());
  }

  @Override
  public @Nullable NatsUri nextServer() {
    long since = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - loggedInAt);
    if (since < AFTER_LOGIN_MILLIS) {
      try {
        Thread.sleep(AFTER_LOGIN_MILLIS - since);
      } catch (InterruptedException closing) {
        Thread.currentThread().interrupt();
      }
    }
    return attempt(super.nextServer());
  }

  @Override
  public void connectSucceeded(NatsUri server) {
    loggedInAt = System.nanoTime();
    if (server instanceof Attempt attempt) {
      loggedInWith = attempt.version;
      super.connectSucceeded(attempt.server);
    } else {
      super.connectSucceeded(server);
    }
  }

  @Override
  public void connectFailed(NatsUri server) {
    super.connectFailed(server instanceof Attempt attempt ? attempt.server : server);
  }

  private @Nullable NatsUri attempt(@Nullable NatsUri server) {
    if (server == null) {
      return null;
    }
    Rotation.Version<Secret> version = version();
    Credentials credentials = version == null ? null : version.value().credentials();
    try {
      return new Attempt(
          credentials == null ? server.getUri() : withUserInfo(server.getUri(), credentials),
          server,
          attempts.incrementAndGet(),
          version == null ? 0 : version.number());
    } catch (URISyntaxException impossible) { // it was one before
      return server;
    }
  }

  /** While the supplier fails, the last one that it gave. */
  private Rotation.@Nullable Version<Secret> version() {
    if (rotation == null) {
      return null;
    }
    try {
      return rotation.read();
    } catch (IllegalStateException logged) {
      return rotation.latest().orElse(null);
    }
  }

  private static URI withUserInfo(URI server, Credentials credentials) throws URISyntaxException {
    String userInfo = credentials.user().isEmpty()
        ? encoded(credentials.password())
        : encoded(credentials.user()) + ":" + encoded(credentials.password());
    return new URI(server.getScheme() + "://" + userInfo + "@" + server.getRawAuthority()
        + server.getRawPath());
  }

  private static String encoded(String part) {
    return URLEncoder.encode(part, StandardCharsets.UTF_8).replace("+", "%20");
  }

  private static final class Attempt extends NatsUri {
    private final NatsUri server;
    private final int number;
    private final long version;

    Attempt(URI uri, NatsUri server, int number, long version) throws URISyntaxException {
      super(uri);
      this.server = server;
      this.number = number;
      this.version = version;
    }

    @Override
    public NatsUri reHost(String address) throws URISyntaxException {
      return new Attempt(super.reHost(address).getUri(), server.reHost(address), number, version);
    }

    @Override
    public boolean equals(@Nullable Object other) {
      return other instanceof Attempt attempt
          ? server.equals(attempt.server)
          : server.equals(other);
    }

    @Override
    public int hashCode() {
      return number;
    }
  }
}
