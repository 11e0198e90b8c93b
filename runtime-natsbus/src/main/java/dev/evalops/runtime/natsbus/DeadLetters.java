package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.PublishException;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.Message;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.impl.Headers;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Where the events of a consumer go that nobody could handle. Thread-safe. */
final class DeadLetters {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final Duration SEND_TIMEOUT = Duration.ofSeconds(5);
  private static final int MAX_REASON = 1000;
  private static final int MAX_HEADERS = 65_535; // of JetStream
  private static final byte[] NOTHING = {};

  private final Connection connection;
  private final Sender sender;
  private final int replicas;
  private final String stream;
  private final String durable;
  private final @Nullable String ownSubject;

  /**
   * Those of a consumer.
   *
   * @param ownSubject where they go; null for a subject and a stream of their own
   */
  DeadLetters(NatsBus bus, String stream, String durable, @Nullable String ownSubject) {
    this.connection = bus.connection();
    this.sender = bus.sender();
    this.replicas = bus.settings().replicas;
    this.stream = stream;
    this.durable = durable;
    this.ownSubject = ownSubject;
  }

  private StreamConfiguration wanted() {
    return Streams.standard(stream + "_DEAD", Subjects.filter("dead." + stream), replicas)
        .maxAge(Duration.ofDays(30))
        .build();
  }

  void prepare() throws IOException, JetStreamApiException {
    JetStreamManagement management = connection.jetStreamManagement();
    if (ownSubject == null) {
      Streams.ensure(management, wanted());
    } else if (management.getStreamNames(ownSubject).isEmpty()) {
      throw new IOException("no stream takes the dead-letter subject " + ownSubject);
    }
  }

  void restore() throws IOException, JetStreamApiException {
    if (ownSubject == null) {
      Streams.restore(connection.jetStreamManagement(), wanted());
    }
  }

  private String subject() {
    return ownSubject == null ? "dead." + stream + "." + durable : ownSubject;
  }

  /** Returns whether it is stored there. */
  boolean store(Delivery delivery, long deliveries, String reason) {
    Message message = delivery.message;
    String subject = subject();
    Headers own = new Headers();
    if (HeaderGuard.reason(message.getHeaders()) != null) {
      own.put("dead-letter-raw-headers", HeaderGuard.raw(message.getHeaders()));
    } else if (message.hasHeaders()) {
      message.getHeaders().forEach((name, values) -> {
        if (!name.regionMatches(true, 0, "Nats-", 0, 5)) { // instructions to the server
          own.put(name, values);
        }
      });
    }
    Headers headers = new Headers();
    headers.put(
        Sender.MESSAGE_ID,
        stream + ":" + durable + ":" + delivery.place.sequence() + ":" + delivery.place.time());
    headers.put("dead-letter-reason", printable(reason));
    headers.put("dead-letter-subject", ascii(message.getSubject()));
    headers.put("dead-letter-stream", stream);
    headers.put("dead-letter-sequence", Long.toString(delivery.place.sequence()));
    headers.put("dead-letter-durable", durable);
    headers.put("dead-letter-deliveries", Long.toString(deliveries));
    byte[] body = message.getData() == null ? NOTHING : message.getData();
    try {
      Sender.await(send(subject, headers, own, body), subject, SEND_TIMEOUT);
    } catch (PublishException | IllegalArgumentException failure) {
      LOG.atError()
          .addKeyValue("subject", message.getSubject())
          .addKeyValue("durable", durable)
          .addKeyValue("error", failure.getMessage())
          .log("event could not be dead-lettered and will be delivered again");
      return false;
    }
    LOG.atError()
        .addKeyValue("subject", message.getSubject())
        .addKeyValue("durable", durable)
        .addKeyValue("sequence", delivery.place.sequence())
        .addKeyValue("dead_letter_subject", subject)
        .addKeyValue("reason", reason)
        .log("event dead-lettered");
    return true;
  }

  /**
   * Without its body, or even its headers, if the server does not take as much with the new ones; the stream has them.
   */
  private CompletableFuture<Outcome> send(
      String subject, Headers headers, Headers own, byte[] body) {
    Headers all = new Headers();
    own.forEach(all::put);
    headers.forEach(all::put);
    byte[] sent = body;
    if (!sender.fits(all, body)) {
      headers.put("dead-letter-body-omitted", Integer.toString(body.length));
      all.put("dead-letter-body-omitted", Integer.toString(body.length));
      sent = NOTHING;
    }
    if (all.serializedLength() > MAX_HEADERS || !sender.fits(all, sent)) {
      headers.put("dead-letter-headers-omitted", Integer.toString(own.serializedLength()));
      all = headers;
    }
    return sender.send(subject, all, sent, null, SEND_TIMEOUT);
  }

  private static String printable(String text) {
    String bounded = text.length() > MAX_REASON ? text.substring(0, MAX_REASON) : text;
    return ascii(bounded.replaceAll("\\s+", " "));
  }

  /** What a header can carry of it. */
  private static String ascii(String text) {
    return text.replaceAll("[^ -~]", "?");
  }
}
