package dev.evalops.examples.notes;

import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;

/** What {@code make run} leaves up: the service as a process, with servers of its own, and the page. */
final class LiveService implements AutoCloseable {
  private static final Duration START_TIMEOUT = Duration.ofMinutes(5);

  private final Lifecycle life = Lifecycle.open();
  private final ServiceProcess service;
  private final URI url;
  private final LivePage page;

  /** Starts everything; port 0 is any that is free. The rate limit is small, so that one sees it. */
  LiveService(Console console, int port, int pagePort) throws Exception {
    try {
      Path flags = Files.createTempFile("notes-flags", ".json");
      flags.toFile().deleteOnExit();
      Files.writeString(flags, Demo.FEED.formatted(true));
      PostgresServer postgres =
          life.add("postgres", console.working("start Postgres", PostgresServer::start));
      RedisServer redis = life.add("redis", console.working("start Redis", RedisServer::start));
      NatsServer nats = life.add("nats", console.working("start NATS", NatsServer::start));
      IdentityServer identity = life.add(
          "identity",
          console.working("start an identity service", () -> Demo.identity(Optional.empty())));
      Map<String, String> environment = new HashMap<>(Map.of(
          "DATABASE_URL", postgres.url(),
          "REDIS_URL", redis.url(),
          "NATS_URL", nats.url(),
          "IDENTITY_URL", identity.url().toString(),
          "FEATURE_FLAGS_PATH", flags.toString(),
          "PORT", Integer.toString(port)));
      Map.of("RATE_LIMIT_PER_SECOND", "5", "RATE_LIMIT_BURST", "20").forEach((name, value) -> {
        if (System.getenv(name) == null) {
          environment.put(name, value);
        }
      });
      service = life.add("service", ServiceProcess.start(environment, line -> {
        if (!line.contains("request_id=" + LivePage.REQUEST_ID + " ")) {
          console.service(line);
        }
      }));
      url = URI.create("http://localhost:" + service.awaitPort(START_TIMEOUT));
      Map<String, LivePage.Server> servers = Map.of(
          "postgres", new LivePage.Server(postgres::kill, postgres::restart),
          "redis", new LivePage.Server(redis::kill, redis::restart),
          "nats", new LivePage.Server(nats::kill, nats::restart));
      page = life.add("page", LivePage.start(pagePort, url, Demo.ANN, servers));
    } catch (Throwable e) {
      life.close();
      throw e;
    }
  }

  /** Of the service. */
  URI url() {
    return url;
  }

  URI page() {
    return page.url();
  }

  /** Waits until the service ends, which it does when it is told to. */
  int awaitExit() throws InterruptedException {
    return service.awaitExit(Duration.ofDays(365)).orElse(1);
  }

  @Override
  public void close() {
    life.close();
  }
}
