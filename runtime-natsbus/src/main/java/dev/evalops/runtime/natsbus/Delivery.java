package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.Message;
import java.time.Instant;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A message in the hands of a consumer. Thread-safe. */
final class Delivery {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);

  final Place place;
  final @Nullable String lane;
  final boolean suspect;
  volatile Message message; // the newest, whose acknowledgement counts
  volatile boolean lost; // its stream is gone, and its acknowledgement would be that of another

  /** Where a message is in the stream; the time tells it from one in a stream that was recreated. */
  record Place(long sequence, Instant time) {}

  Delivery(Place place, @Nullable String lane, boolean suspect, Message message) {
    this.place = place;
    this.lane = lane;
    this.suspect = suspect;
    this.message = message;
  }

  /** It is not answered any more if it is of a stream that was there before. */
  void lose(Instant streamCreated) {
    lost |= place.time().isBefore(streamCreated);
  }

  /** Returns false if the client has no room for the answer. */
  boolean answer(Connection connection, byte[] answer, String failed) {
    return lost || answer(connection, message, answer, failed);
  }

  /** A failure is no reason to handle it again: when it comes again it is only acknowledged. */
  static boolean answer(Connection connection, Message message, byte[] answer, String failed) {
    boolean interrupted = false;
    try {
      do { // The client drops without a word what an interrupted thread publishes.
        interrupted |= Thread.interrupted();
        connection.publish(message.getReplyTo(), answer);
      } while (Thread.currentThread().isInterrupted());
      return true;
    } catch (RuntimeException failure) {
      LOG.atWarn()
          .addKeyValue("subject", message.getSubject())
          .addKeyValue("error", Secrets.hide(failure.getMessage()))
          .log(failed);
      return false;
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }
}
