package dev.evalops.runtime.natsbus;

import java.util.Objects;
import org.slf4j.LoggerFactory;

/**
 * Where a service puts its changes: {@link NatsBus}, {@link ReliablePublisher}, {@link #noop()}, or a list in a test. Thread-safe.
 */
@FunctionalInterface
public interface ChangePublisher {
  /** What became of a change. */
  enum Outcome {
    /** The stream has it. */
    STORED,
    /** It is safe on disk, and is sent when NATS can take it. Do not publish it again. */
    DEAD_LETTERED,
    /** It is gone, as {@link ChangePublisher#noop()} does it. */
    DISCARDED
  }

  /**
   * Publishes a change, and returns when it is safe.
   *
   * @param change what has happened
   * @return where it is now
   * @throws IllegalArgumentException if the change cannot be written, whenever it is tried; the message names the parameter
   * @throws NatsBusException if it is not safe: it may or may not be in the stream. Publishing it again is harmless if it has an
   *     {@link Change#eventId() event id}. Also when interrupted, with the flag set again
   */
  Outcome publish(Change change);

  /**
   * Publishes a change, and logs a failure instead of throwing it. Then the change is lost: for events that nobody relies on.
   *
   * @param change what has happened
   */
  default void publishOrLog(Change change) {
    try {
      publish(change);
    } catch (NatsBusException | IllegalArgumentException failure) {
      LoggerFactory.getLogger(ChangePublisher.class)
          .atError()
          .addKeyValue("error", failure.getMessage())
          .addKeyValue("seq", change.sequence().isPresent() ? change.sequence().getAsLong() : 0)
          .log("failed to publish change event");
    }
  }

  /**
   * A publisher that forgets everything, for a service that runs without NATS.
   *
   * @return the publisher
   */
  static ChangePublisher noop() {
    return change -> {
      Objects.requireNonNull(change, "change");
      return Outcome.DISCARDED;
    };
  }
}
