package dev.evalops.runtime.natsbus;

import com.sun.management.OperatingSystemMXBean;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.EventFormatBenchmark;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.Connection;
import io.nats.client.Dispatcher;
import io.nats.client.JetStream;
import io.nats.client.JetStreamManagement;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.PublishAck;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.lang.management.ManagementFactory;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Messages per second: a bus beside the bare client, with the same bytes on the same server, in turn. The client gets
 * messages that are encoded already; the bus encodes each, and reads each that it consumes. The processor time, of this
 * process alone, says more than the rate on a machine that is not quiet.
 */
@SuppressWarnings("try") // what is opened is held for its close
public final class NatsThroughput {
  private static final OperatingSystemMXBean PROCESS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private static final int ROUNDS = 5;
  private static final int WINDOW = 1024;
  private static final int WINDOWED = 100_000;
  private static final int ONE_BY_ONE = 2_000;
  private static final int AGGREGATES = 5_000;

  private final NatsBus bus;
  private final Connection raw;
  private final JetStream stream;
  private final JetStreamManagement management;
  private final byte[] body;
  private int consumers;

  private NatsThroughput(NatsBus bus, Connection raw) throws Exception {
    this.bus = bus;
    this.raw = raw;
    this.stream = raw.jetStream();
    this.management = raw.jetStreamManagement();
    this.body = EventFormat.JSON
        .encode(change(0), "notes.changes", Instant.now(), Map.of())
        .body();
  }

  /**
   * Runs it and prints a table.
   *
   * @param arguments none
   * @throws Exception if anything fails
   */
  public static void main(String[] arguments) throws Exception {
    try (NatsServer server = NatsServer.start();
        NatsBus bus = NatsBus.builder(server.url()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .open();
        Connection raw = Nats.connect(server.url())) {
      new NatsThroughput(bus, raw).run();
    }
  }

  private void run() throws Exception {
    Map<String, Callable<Double>> runs = new LinkedHashMap<>();
    runs.put("one by one, client", this::oneByOneRaw);
    runs.put("one by one, bus", this::oneByOneBus);
    runs.put("window of 1024, client", this::windowedRaw);
    runs.put("window of 1024, bus", this::windowedBus);
    runs.put("consuming, client", () -> consumingRaw(message -> {}));
    runs.put("consuming and reading, client", () -> consumingRaw(NatsBus::read));
    runs.put("consuming, bus", this::consumingBus);
    Map<String, List<Double>> results = new LinkedHashMap<>();
    Map<String, Double> processorTime = new LinkedHashMap<>();
    for (int round = -1; round < ROUNDS; round++) {
      for (Map.Entry<String, Callable<Double>> each : runs.entrySet()) {
        long before = PROCESS.getProcessCpuTime();
        double perSecond = each.getValue().call();
        if (round >= 0) {
          int count = each.getKey().startsWith("one by one") ? ONE_BY_ONE : WINDOWED;
          processorTime.merge(
              each.getKey(),
              (PROCESS.getProcessCpuTime() - before) / 1000.0 / count / ROUNDS,
              Double::sum);
          results.computeIfAbsent(each.getKey(), name -> new ArrayList<>()).add(perSecond);
        }
      }
      management.purgeStream("NOTES");
    }
    results.forEach((name, all) -> {
      double[] sorted = all.stream().mapToDouble(Double::doubleValue).sorted().toArray();
      System.out.printf(
          Locale.ROOT,
          "%-30s %,8.0f messages/s (%,.0f-%,.0f), %.1f us of processor time each%n",
          name,
          sorted[ROUNDS / 2],
          sorted[0],
          sorted[ROUNDS - 1],
          processorTime.get(name));
    });
  }

  private static Change change(int number) {
    return Change.of("note", "n-" + number % AGGREGATES, "create")
        .organization("org-1")
        .sequence(number)
        .version(number)
        .payload(EventFormatBenchmark.PAYLOAD);
  }

  private static NatsMessage message(byte[] body, int number) {
    String sequence = Integer.toString(number);
    Headers headers = new Headers();
    headers.put("Nats-Msg-Id", "00000000-0000-4000-8000-" + System.nanoTime());
    headers.put("ce-sequence", sequence);
    headers.put("ce-partitionkey", "n-" + number % AGGREGATES);
    headers.put("ce-aggregateversion", sequence);
    return NatsMessage.builder()
        .subject("notes.changes.note.create")
        .headers(headers)
        .data(body)
        .build();
  }

  private static double perSecond(int count, long begin) {
    return count * 1e9 / (System.nanoTime() - begin);
  }

  private double oneByOneRaw() throws Exception {
    long begin = System.nanoTime();
    for (int i = 0; i < ONE_BY_ONE; i++) {
      stream.publish(message(body, i));
    }
    return perSecond(ONE_BY_ONE, begin);
  }

  private double oneByOneBus() {
    long begin = System.nanoTime();
    for (int i = 0; i < ONE_BY_ONE; i++) {
      bus.publish(change(i));
    }
    return perSecond(ONE_BY_ONE, begin);
  }

  private double windowedRaw() throws Exception {
    Semaphore window = new Semaphore(WINDOW);
    long begin = System.nanoTime();
    for (int i = 0; i < WINDOWED; i++) {
      window.acquire();
      CompletableFuture<PublishAck> ack = stream.publishAsync(message(body, i));
      var unused = ack.whenComplete((done, failure) -> window.release());
    }
    window.acquire(WINDOW);
    return perSecond(WINDOWED, begin);
  }

  private double windowedBus() throws Exception {
    CompletableFuture<?>[] all = new CompletableFuture<?>[WINDOWED];
    long begin = System.nanoTime();
    for (int i = 0; i < WINDOWED; i++) {
      all[i] = bus.publishAsync(change(i));
    }
    CompletableFuture.allOf(Arrays.copyOf(all, all.length)).get(60, TimeUnit.SECONDS);
    return perSecond(WINDOWED, begin);
  }

  private double consumingRaw(Consumer<Message> reader) throws Exception {
    CountDownLatch left = new CountDownLatch(WINDOWED);
    Dispatcher dispatcher = raw.createDispatcher();
    String durable = "raw" + consumers++;
    long begin = System.nanoTime();
    stream.subscribe(
        "notes.changes.>",
        durable,
        dispatcher,
        message -> {
          reader.accept(message);
          message.ack();
          left.countDown();
        },
        false,
        PushSubscribeOptions.builder().stream("NOTES").durable(durable).build());
    left.await(60, TimeUnit.SECONDS);
    double result = perSecond(WINDOWED, begin);
    raw.closeDispatcher(dispatcher);
    management.deleteConsumer("NOTES", durable);
    return result;
  }

  private double consumingBus() throws Exception {
    CountDownLatch left = new CountDownLatch(WINDOWED);
    String durable = "bus" + consumers++;
    long begin = System.nanoTime();
    try (EventConsumer consumer = bus.consumer("notes.changes.>", durable)
        .deliver(DeliverPolicy.All)
        .start(event -> left.countDown())) {
      left.await(60, TimeUnit.SECONDS);
      return perSecond(WINDOWED, begin);
    } finally {
      management.deleteConsumer("NOTES", durable);
    }
  }
}
