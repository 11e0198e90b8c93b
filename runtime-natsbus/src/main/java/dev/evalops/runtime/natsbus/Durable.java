package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import io.nats.client.Connection;
import io.nats.client.Dispatcher;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.ConsumerInfo;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.RetentionPolicy;
import io.nats.client.api.StreamInfo;
import java.io.IOException;
import java.time.Duration;
import java.time.ZonedDateTime;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The durable of a consumer on the server, and the subscription to it. One that is deleted is created again where it
 * was. Thread-safe.
 */
final class Durable {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final int CONSUMER_NOT_FOUND = 10_014;
  private static final Duration SUBSCRIBE_TIMEOUT = Duration.ofSeconds(5);
  private static final Duration DRAIN_TIMEOUT = Duration.ofSeconds(1);

  private final Connection connection;
  private final ConsumerSettings settings;
  private final Lanes lanes;
  private volatile Duration ackWait;
  private volatile long maxDeliveries;
  private volatile long serverMaxDeliveries = Long.MAX_VALUE;
  private volatile long maxAckPending = Long.MAX_VALUE;
  private volatile long lag;

  private final ReentrantLock lock = new ReentrantLock();
  // All guarded by the lock.
  private @Nullable StreamPosition position;
  private @Nullable ZonedDateTime durableCreated;
  private boolean stopping;
  private @Nullable Dispatcher dispatcher;
  private @Nullable String deliverSubject;

  /**
   * One that is not attached yet.
   *
   * @param lanes gets the messages, and hears of streams that are gone
   */
  Durable(Connection connection, ConsumerSettings settings, Lanes lanes) {
    this.connection = connection;
    this.settings = settings;
    this.lanes = lanes;
    this.ackWait = settings.ackWait;
    this.maxDeliveries = settings.maxDeliveries;
  }

  Duration ackWait() {
    return ackWait;
  }

  long maxDeliveries() {
    return maxDeliveries;
  }

  /** As many as the server delivers, whoever asks for more. */
  long serverMaxDeliveries() {
    return serverMaxDeliveries;
  }

  /** As many as the server delivers before they are acknowledged. */
  long maxAckPending() {
    return maxAckPending;
  }

  /** How many events of the stream it has not delivered, when it was last looked at. */
  long lag() {
    return lag;
  }

  /** Creates the durable if it does not exist, and subscribes to it. */
  void attach() throws IOException, JetStreamApiException {
    JetStreamManagement management = connection.jetStreamManagement();
    ConsumerInfo info = find(management);
    if (info == null) {
      info = create(management);
    }
    locate(management, info);
    lag = info.getNumPending();
    ConsumerConfiguration found = info.getConsumerConfiguration();
    String subject = check(found);
    maxAckPending = found.getMaxAckPending() < 1 ? Long.MAX_VALUE : found.getMaxAckPending();
    lock.lock();
    try {
      if (found.getAckWait() != null && found.getAckWait().isPositive()) {
        ackWait = found.getAckWait();
      }
      maxDeliveries = maxDeliveries(found);
      if (subject.equals(deliverSubject) || stopping) {
        return;
      }
      // The handler is the dispatcher's: one that is given to subscribe() misses what comes at
      // once.
      Dispatcher current =
          dispatcher == null ? connection.createDispatcher(lanes::received) : dispatcher;
      if (deliverSubject != null) {
        current.unsubscribe(deliverSubject);
      }
      dispatcher = current;
      deliverSubject = subject;
    } finally {
      lock.unlock();
    }
    subscribe(subject);
  }

  private @Nullable ConsumerInfo find(JetStreamManagement management)
      throws IOException, JetStreamApiException {
    try {
      return management.getConsumerInfo(settings.stream, settings.durable);
    } catch (JetStreamApiException failure) {
      if (failure.getApiErrorCode() != CONSUMER_NOT_FOUND) {
        throw failure;
      }
      return null;
    }
  }

  private ConsumerInfo create(JetStreamManagement management)
      throws IOException, JetStreamApiException {
    ConsumerConfiguration.Builder wanted = settings.configuration(connection.getOptions());
    StreamPosition before = position();
    boolean sameStream = false;
    if (before != null) {
      StreamInfo stream = management.getStreamInfo(settings.stream);
      sameStream = before.isOf(stream.getCreateTime(), stream.getStreamState().getLastSequence());
      if (!sameStream) {
        lanes.lose(stream.getCreateTime()); // before anything of the new one can be here
      }
      // A work queue has what is not acknowledged, and gives no durable less than all of it.
      if (sameStream
          && stream.getConfiguration().getRetentionPolicy() != RetentionPolicy.WorkQueue) {
        wanted.deliverPolicy(DeliverPolicy.ByStartSequence).startSequence(before.next());
      } else {
        wanted.deliverPolicy(DeliverPolicy.All);
      }
    }
    ConsumerInfo made;
    try {
      made = management.addOrUpdateConsumer(settings.stream, wanted.build());
    } catch (JetStreamApiException failure) {
      ConsumerInfo others = find(management); // made by another process meanwhile
      if (others == null) {
        throw failure;
      }
      return others;
    }
    if (before == null) {
      LOG.atInfo()
          .addKeyValue("stream", settings.stream)
          .addKeyValue("durable", settings.durable)
          .addKeyValue("deliver", made.getConsumerConfiguration().getDeliverPolicy())
          .addKeyValue("from_sequence", made.getDelivered().getStreamSequence() + 1)
          .log("durable created");
    } else {
      LOG.atWarn()
          .addKeyValue("stream", settings.stream)
          .addKeyValue("durable", settings.durable)
          .addKeyValue("from_sequence", made.getDelivered().getStreamSequence() + 1)
          .log(
              sameStream
                  ? "durable was deleted; created again where this process was"
                  : "stream was recreated; durable created again, from the first event");
    }
    return made;
  }

  /** Learns where the durable is, and whether it or its stream are others than before. */
  private void locate(JetStreamManagement management, ConsumerInfo info)
      throws IOException, JetStreamApiException {
    long floor = info.getNumAckPending() == 0
        ? info.getDelivered().getStreamSequence() // of a new one there is no floor
        : info.getAckFloor().getStreamSequence();
    lock.lock();
    try {
      if (position != null && info.getCreationTime().equals(durableCreated)) {
        position = position.at(floor);
        return;
      }
    } finally {
      lock.unlock();
    }
    StreamInfo stream = management.getStreamInfo(settings.stream);
    lock.lock();
    try {
      durableCreated = info.getCreationTime();
      if (position != null
          && !position.isOf(stream.getCreateTime(), stream.getStreamState().getLastSequence())) {
        lanes.lose(stream.getCreateTime());
      }
      position = new StreamPosition(stream.getCreateTime(), floor);
    } finally {
      lock.unlock();
    }
  }

  private @Nullable StreamPosition position() {
    lock.lock();
    try {
      return position;
    } finally {
      lock.unlock();
    }
  }

  /**
   * The server says that a subscription is not allowed before it answers a ping that was sent after it, and never says
   * more.
   */
  private void subscribe(String subject) throws IOException {
    String refused = "Permissions Violation for Subscription to \"" + subject + '"';
    if (String.valueOf(connection.getLastError()).contains(refused)) {
      connection.clearLastError(); // of another attempt
    }
    boolean confirmed = false;
    try {
      requireNonNull(dispatcher).subscribe(subject, settings.queue);
      connection.flush(SUBSCRIBE_TIMEOUT);
      String error = String.valueOf(connection.getLastError());
      if (error.contains(refused)) {
        throw new IOException(error);
      }
      confirmed = true;
    } catch (TimeoutException | IllegalStateException late) {
      if (connection.getStatus() == Connection.Status.CONNECTED) {
        throw new IOException("the server does not answer", late);
      }
      confirmed = true; // the client subscribes again when it is connected again
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", interrupted);
    } finally {
      if (!confirmed) {
        forgetSubscription(subject);
      }
    }
  }

  private void forgetSubscription(String subject) {
    Dispatcher current;
    lock.lock();
    try {
      deliverSubject = null;
      current = dispatcher;
    } finally {
      lock.unlock();
    }
    if (current != null && current.isActive()) {
      current.unsubscribe(subject);
    }
  }

  /** The server knows no dead letters, and drops what it has delivered as often as it may. */
  private long maxDeliveries(ConsumerConfiguration found) {
    long server = found.getMaxDeliver();
    serverMaxDeliveries = server < 1 ? Long.MAX_VALUE : server;
    if (server < 1 || server > settings.maxDeliveries) {
      return settings.maxDeliveries;
    }
    if (deliverSubject == null) {
      LOG.atWarn()
          .addKeyValue("durable", settings.durable)
          .addKeyValue("max_deliver", server)
          .log("durable has a lower max_deliver than the consumer; an event is lost if the process"
              + " dies at its last delivery");
    }
    return server;
  }

  /** Returns what it delivers to. */
  private String check(ConsumerConfiguration found) throws IOException {
    String durable = "the durable " + settings.durable + " exists";
    String subject = found.getDeliverSubject();
    if (subject == null) {
      throw new IOException(durable + " as a pull consumer");
    }
    if (!settings.queue.equals(found.getDeliverGroup())) {
      throw new IOException(durable + " for another queue: " + found.getDeliverGroup());
    }
    if (!settings.subject.equals(found.getFilterSubject())) {
      throw new IOException(durable + " for another subject: " + found.getFilterSubject());
    }
    if (found.getAckPolicy() != AckPolicy.Explicit) {
      throw new IOException(durable + " without explicit acknowledgements");
    }
    if (found.isHeadersOnly()) {
      throw new IOException(durable + " without the data of its events");
    }
    return subject;
  }

  @Nullable
  String deliverSubject() {
    lock.lock();
    try {
      return deliverSubject;
    } finally {
      lock.unlock();
    }
  }

  /** Ends the subscription; messages that are on their way still come to the lanes, which give them back. */
  void unsubscribe() throws InterruptedException {
    Dispatcher current;
    lock.lock();
    try {
      stopping = true;
      current = dispatcher;
    } finally {
      lock.unlock();
    }
    if (current == null || !current.isActive()) {
      return;
    }
    CompletableFuture<Boolean> drained = current.drain(DRAIN_TIMEOUT);
    try {
      drained.get(DRAIN_TIMEOUT.toMillis() * 2, TimeUnit.MILLISECONDS);
    } catch (ExecutionException | TimeoutException late) {
      LOG.atDebug().log("consumer subscription did not end in time");
    }
  }
}
