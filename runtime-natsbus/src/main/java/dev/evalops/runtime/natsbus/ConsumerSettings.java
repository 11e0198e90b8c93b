package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.events.Event;
import io.micrometer.core.instrument.MeterRegistry;
import io.nats.client.Message;
import io.nats.client.Options;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.DeliverPolicy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/** What a consumer is built with, and the durable that comes of it. A running one has a copy, which nobody changes. */
final class ConsumerSettings {
  private static final Duration MIN_ACK_WAIT = Duration.ofMillis(100);

  final NatsBus bus;
  final String subject;
  final String durable;
  final List<Consumer<? super ConsumerConfiguration.Builder>> configure = new ArrayList<>();
  String stream;
  String queue;
  DeliverPolicy deliver = DeliverPolicy.New;
  Duration ackWait = Duration.ofSeconds(30);
  int concurrency = 16;
  int maxDeliveries = 10;
  Duration firstDelay = Duration.ofSeconds(1);
  Duration maxDelay = Duration.ofMinutes(1);
  Duration drainTimeout = Duration.ofSeconds(5);
  Function<Message, Event> reader = NatsBus::read;

  @Nullable
  String deadLetterSubject;

  @Nullable
  MeterRegistry registry;

  ConsumerSettings(NatsBus bus, String subject, String durable) {
    this.bus = bus;
    this.subject = subject;
    this.durable = durable;
    this.stream = bus.settings().stream;
    this.queue = durable;
  }

  /** A copy. */
  ConsumerSettings(ConsumerSettings of) {
    bus = of.bus;
    subject = of.subject;
    durable = of.durable;
    configure.addAll(of.configure);
    stream = of.stream;
    queue = of.queue;
    deliver = of.deliver;
    ackWait = BusSettings.bounded(of.ackWait);
    concurrency = of.concurrency;
    maxDeliveries = of.maxDeliveries;
    firstDelay = BusSettings.bounded(of.firstDelay);
    maxDelay = BusSettings.bounded(of.maxDelay);
    drainTimeout = BusSettings.bounded(of.drainTimeout);
    reader = of.reader;
    deadLetterSubject = of.deadLetterSubject;
    registry = of.registry;
  }

  ConsumerConfiguration.Builder configuration(Options options) {
    ConsumerConfiguration.Builder configuration = ConsumerConfiguration.builder();
    configure.forEach(change -> change.accept(configuration));
    return configuration
        .durable(durable)
        // The same from every process, so that two that start at once make the same durable.
        .deliverSubject(options.getInboxPrefix() + stream + "." + durable)
        .deliverGroup(queue)
        .filterSubject(subject)
        .deliverPolicy(deliver)
        .ackPolicy(AckPolicy.Explicit)
        .ackWait(ackWait);
  }

  /** Names every problem in one exception. */
  void check() {
    List<String> problems = new ArrayList<>();
    if (subject.isBlank()) {
      problems.add("consumer_subject_required");
    } else {
      Subjects.checkSubject("subject", subject, true, problems);
    }
    if (stream.isBlank()) {
      problems.add("consumer_stream_required");
    } else {
      Subjects.checkName("stream", stream, problems);
    }
    if (durable.isBlank()) {
      problems.add("consumer_durable_required");
    } else {
      Subjects.checkName("durable", durable, problems);
      Subjects.checkName("queue", queue, problems);
    }
    if (deliver != DeliverPolicy.New
        && deliver != DeliverPolicy.All
        && deliver != DeliverPolicy.Last) {
      problems.add("deliver must be New, All or Last: " + deliver);
    }
    if (ackWait.compareTo(MIN_ACK_WAIT) < 0) {
      problems.add("ackWait must be 100 ms or more: " + ackWait);
    }
    if (concurrency < 1) {
      problems.add("concurrency must be 1 or more: " + concurrency);
    }
    if (maxDeliveries < 1) {
      problems.add("maxDeliveries must be 1 or more: " + maxDeliveries);
    }
    if (firstDelay.isNegative() || maxDelay.compareTo(firstDelay) < 0) {
      problems.add("redeliveryDelay must be zero or more, and its longest not less than its first: "
          + firstDelay + ", " + maxDelay);
    }
    if (drainTimeout.isNegative()) {
      problems.add("drainTimeout must be zero or more: " + drainTimeout);
    }
    if (deadLetterSubject != null) {
      Subjects.checkSubject("deadLetterSubject", deadLetterSubject, false, problems);
      if (Subjects.covers(subject, deadLetterSubject)) {
        problems.add("deadLetterSubject must be one that this consumer does not listen to: "
            + deadLetterSubject);
      }
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
  }
}
