package dev.evalops.runtime.natsbus;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import java.util.function.LongSupplier;

/** The meters of a consumer that was given a registry. No other class of it touches that optional library. */
final class ConsumerMetrics {
  private final Counter handled;
  private final Counter failed;
  private final Counter deadLettered;
  private final SharedGauge.Part inHand;
  private final SharedGauge.Part lag;

  ConsumerMetrics(
      MeterRegistry registry,
      String stream,
      String durable,
      LongSupplier inHandNow,
      LongSupplier lagNow) {
    Tags tags = Tags.of("stream", stream, "durable", durable);
    this.handled = Counter.builder("natsbus.consumer.handled")
        .description("Events that were handled")
        .tags(tags)
        .register(registry);
    this.failed = Counter.builder("natsbus.consumer.failed")
        .description("Deliveries whose handler has thrown")
        .tags(tags)
        .register(registry);
    this.deadLettered = Counter.builder("natsbus.consumer.dead.lettered")
        .description("Events that went to the dead-letter subject")
        .tags(tags)
        .register(registry);
    this.inHand = SharedGauge.add(
        registry,
        "natsbus.consumer.in.hand",
        "Events that were delivered and have no answer yet",
        tags,
        values -> values.mapToLong(LongSupplier::getAsLong).sum(),
        inHandNow);
    // The consumers of one durable all know the same number.
    this.lag = SharedGauge.add(
        registry,
        "natsbus.consumer.lag",
        "Events in the stream that were not delivered yet, looked at every 10 s",
        tags,
        values -> values.mapToLong(LongSupplier::getAsLong).max().orElse(0),
        lagNow);
  }

  void handled() {
    handled.increment();
  }

  void failed() {
    failed.increment();
  }

  void deadLettered() {
    deadLettered.increment();
  }

  void close() {
    inHand.close();
    lag.close();
  }
}
