package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.PublishException;
import io.nats.client.Connection;
import io.nats.client.impl.Headers;
import java.time.Duration;
import java.time.InstantSource;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Encodes the changes of a bus and sends them, each in a span, and counts what fails. Thread-safe. */
final class Publishing {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);

  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor(
      Thread.ofPlatform().daemon().name("natsbus-timer").factory());
  private final Connection connection;
  private final Sender sender;
  private final String subjectPrefix;
  private final EventFormat format;
  private final InstantSource clock;
  private final Duration timeout;
  private final @Nullable Telemetry telemetry;
  private final @Nullable BusMetrics metrics;

  Publishing(Connection connection, BusSettings settings, @Nullable Telemetry telemetry) {
    this.connection = connection;
    this.sender = new Sender(connection, settings.maxPending, timer);
    this.subjectPrefix = Subjects.prefix(settings.subjectPrefix);
    this.format = settings.format;
    this.clock = settings.clock;
    this.timeout = settings.publishTimeout;
    this.telemetry = telemetry;
    this.metrics =
        settings.registry == null ? null : new BusMetrics(settings.registry, this::isConnected);
  }

  private boolean isConnected() {
    return connection.getStatus() == Connection.Status.CONNECTED;
  }

  Sender sender() {
    return sender;
  }

  Outcome publish(Change change) {
    String subject = subject(change);
    Outcome outcome = Sender.await(publishAsync(change), subject, timeout);
    LOG.atDebug()
        .addKeyValue("seq", change.sequence().isPresent() ? change.sequence().getAsLong() : 0)
        .addKeyValue("subject", subject)
        .log("published change event");
    return outcome;
  }

  CompletableFuture<Outcome> publishAsync(Change change) {
    if (telemetry == null) {
      return send(encode(change));
    }
    Telemetry.Running span = telemetry.publish(subject(change));
    EncodedEvent event;
    try {
      event = encode(change, telemetry.inject(span));
    } catch (RuntimeException | Error failure) {
      span.end(failure);
      throw failure;
    }
    return send(event, span);
  }

  private String subject(Change change) {
    return subjectPrefix + "." + change.aggregateType() + "." + change.operation();
  }

  EncodedEvent encode(Change change) {
    return encode(change, telemetry == null ? Map.of() : telemetry.inject());
  }

  private EncodedEvent encode(Change change, Map<String, String> trace) {
    return format.encode(change, subjectPrefix, clock.instant(), trace);
  }

  CompletableFuture<Outcome> send(EncodedEvent event) {
    return send(event, telemetry == null ? null : telemetry.publish(event));
  }

  private CompletableFuture<Outcome> send(EncodedEvent event, Telemetry.@Nullable Running span) {
    CompletableFuture<Outcome> outcome;
    try {
      Headers headers = new Headers();
      event.headers().forEach(headers::put);
      headers.put(Sender.MESSAGE_ID, event.id());
      outcome = sender.send(event.subject(), headers, event.body(), event.lane(), timeout);
    } catch (IllegalArgumentException malformed) {
      outcome = CompletableFuture.failedFuture(Sender.failure(
          PublishException.Reason.REFUSED,
          event.subject(),
          String.valueOf(malformed.getMessage()),
          malformed));
    }
    if (span != null || metrics != null) {
      var unused = outcome.whenComplete((stored, failure) -> {
        if (span != null) {
          span.end(failure);
        }
        if (failure != null && metrics != null) {
          metrics.publishFailed();
        }
      });
    }
    return outcome;
  }

  /** Takes nothing more, and waits for what is under way, and for an answer of the server. */
  void finish(Duration bound) throws InterruptedException, TimeoutException {
    sender.stop();
    sender.await(bound);
    if (isConnected()) {
      connection.flush(bound);
    }
  }

  /** Fails what is still under way. */
  void close() {
    timer.shutdownNow();
    sender.close();
    if (metrics != null) {
      metrics.close();
    }
  }
}
