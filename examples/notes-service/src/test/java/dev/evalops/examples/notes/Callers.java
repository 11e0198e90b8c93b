package dev.evalops.examples.notes;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Sends requests at a steady rate, each to the next of several services, and again to the one after it when that is no
 * use: under the same key, as long as it takes. Half of them create a note, a quarter changes one, a quarter reads one.
 */
final class Callers implements AutoCloseable {
  private static final Duration REQUEST_TIMEOUT = Duration.ofSeconds(15);
  private static final Duration PATIENCE = Duration.ofMinutes(3);
  private static final int MAX_UNDER_WAY = 60;
  private static final Pattern CODE = Pattern.compile("\"code\":\\s*\"([a-z_]+)\"");

  private final HttpClient client;
  private final List<URI> services;
  private final String token;
  private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
  private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
  private final Semaphore places = new Semaphore(MAX_UNDER_WAY);
  private final AtomicInteger number = new AtomicInteger();
  private final AtomicInteger next = new AtomicInteger();
  private final LongAdder requests = new LongAdder();
  private final LongAdder heldBack = new LongAdder();
  private final Map<String, LongAdder> errors = new ConcurrentHashMap<>();
  private final Queue<String> failures = new ConcurrentLinkedQueue<>();
  private final Queue<String> notes = new ConcurrentLinkedQueue<>();
  private final AtomicInteger created = new AtomicInteger();
  private final Set<String> changes = ConcurrentHashMap.newKeySet();
  private final ConcurrentSkipListSet<Long> successes = new ConcurrentSkipListSet<>();

  private Callers(HttpClient client, List<URI> services, String token) {
    this.client = client;
    this.services = services;
    this.token = token;
  }

  static Callers start(HttpClient client, List<URI> services, String token, int perSecond) {
    Callers callers = new Callers(client, services, token);
    long period = TimeUnit.SECONDS.toNanos(1) / perSecond;
    var unused = callers.clock.scheduleAtFixedRate(callers::tick, 0, period, TimeUnit.NANOSECONDS);
    return callers;
  }

  private void tick() {
    if (!places.tryAcquire()) {
      heldBack.increment();
      return;
    }
    int turn = number.getAndIncrement();
    threads.execute(() -> {
      try {
        switch (turn % 4) {
          case 1 -> change();
          case 3 -> read();
          default -> create(turn);
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      } catch (RuntimeException e) {
        failures.add(e.toString());
      } finally {
        places.release();
      }
    });
  }

  private void create(int turn) throws InterruptedException {
    HttpResponse<String> answer = send(
        "/v1/notes",
        UUID.randomUUID().toString(),
        request -> request.POST(BodyPublishers.ofString("{\"title\":\"note " + turn + "\"}")));
    if (answer != null) {
      String location = answer.headers().firstValue("Location").orElseThrow();
      succeeded(location, 1);
      created.incrementAndGet();
      notes.add(location);
    }
  }

  private void change() throws InterruptedException {
    String note = notes.poll();
    if (note == null) {
      return;
    }
    HttpResponse<String> answer = send(
        note,
        UUID.randomUUID().toString(),
        request -> request
            .header("If-Match", "\"1\"")
            .PUT(BodyPublishers.ofString("{\"title\":\"changed\"}")));
    if (answer != null) {
      succeeded(note, 2);
    }
  }

  private void read() throws InterruptedException {
    String note = notes.peek();
    if (note != null) {
      send(note, "", HttpRequest.Builder::GET);
    }
  }

  private void succeeded(String note, int version) {
    changes.add(note.substring(note.lastIndexOf('/') + 1) + ":" + version);
    successes.add(System.nanoTime());
  }

  private interface Kind {
    void of(HttpRequest.Builder request);
  }

  /** The good answer; null when there was none that may be, and the reason is kept. */
  private HttpResponse<String> send(String path, String key, Kind kind)
      throws InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    String last = "";
    while (System.nanoTime() - deadline < 0) {
      URI service = services.get(Math.floorMod(next.getAndIncrement(), services.size()));
      HttpRequest.Builder request = HttpRequest.newBuilder(service.resolve(path))
          .timeout(REQUEST_TIMEOUT)
          .header("Authorization", "Bearer " + token)
          .header("Content-Type", "application/json");
      if (!key.isEmpty()) {
        request.header("Idempotency-Key", key);
      }
      kind.of(request);
      requests.increment();
      try {
        HttpResponse<String> answer = client.send(request.build(), BodyHandlers.ofString());
        if (answer.statusCode() / 100 == 2) {
          return answer;
        }
        last = answer.statusCode() + " " + code(answer.body());
        errors.computeIfAbsent(last, each -> new LongAdder()).increment();
        boolean mayBe = answer.statusCode() == 503
            ? answer.headers().firstValue("Retry-After").isPresent()
            : last.equals("409 idempotency_in_progress");
        if (!mayBe) {
          failures.add(last + ": " + answer.body());
          return null;
        }
      } catch (HttpTimeoutException e) {
        last = "no answer in " + REQUEST_TIMEOUT.toSeconds() + " s";
        errors.computeIfAbsent(last, each -> new LongAdder()).increment();
      } catch (IOException e) {
        last = "no connection";
        errors.computeIfAbsent(last, each -> new LongAdder()).increment();
      }
      Thread.sleep(500); // the pause of a client between its tries
    }
    failures.add("given up after " + PATIENCE.toSeconds() + " s: " + last);
    return null;
  }

  private static String code(String body) {
    Matcher code = CODE.matcher(body);
    return code.find() ? code.group(1) : "without a code";
  }

  /** Waits until all that were sent have their answer. */
  void stop() throws InterruptedException {
    clock.shutdown();
    threads.shutdown();
    threads.awaitTermination(PATIENCE.toSeconds() + 30, TimeUnit.SECONDS);
  }

  int created() {
    return created.get();
  }

  /** Notes with their versions, whose change was answered. */
  Set<String> changes() {
    return changes;
  }

  /** What must not be. */
  Collection<String> failures() {
    return failures;
  }

  /** The longest time without a change that was answered, of those that began after one time and before another. */
  Duration longestPause(long from, long to) {
    long longest = 0;
    long last = from;
    for (long each : successes.subSet(from, to)) {
      longest = Math.max(longest, each - last);
      last = each;
    }
    return Duration.ofNanos(Math.max(longest, to - last));
  }

  String figures() {
    return requests.sum() + " requests, " + changes.size() + " changes answered, "
        + heldBack.sum() + " not sent because " + MAX_UNDER_WAY + " were under way; errors: "
        + new TreeMap<>(errors);
  }

  @Override
  public void close() {
    clock.shutdownNow();
    threads.shutdownNow();
  }
}
