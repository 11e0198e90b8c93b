package dev.evalops.runtime.events;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/** Publishes the changes of a service: a broker, a spool, or a list in a test. Thread-safe. */
public interface ChangePublisher {
  /** What became of a change. */
  enum Outcome {
    /** The broker has stored it. */
    STORED,
    /** It is safe on disk, and is sent when the broker can store it. Do not publish it again. */
    SPOOLED,
    /** It was dropped on purpose, for example in a test. */
    DISCARDED
  }

  /**
   * Returns the event as it goes to the broker, with a new id unless the change has one.
   *
   * @param change what has happened
   * @return the event; may be kept and sent later, also by another process
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   */
  EncodedEvent encode(Change change);

  /**
   * Sends an event. Events are sent in the order of the calls. To keep that order through failures, wait for an event
   * before you send the next.
   *
   * @param event the event
   * @return completed with the outcome when the event is safe, within the publisher's time limit, or with a {@link
   *     PublishException}
   */
  CompletableFuture<Outcome> send(EncodedEvent event);

  /**
   * Returns how long the broker recognises an id: an event that is sent twice within this time is stored once.
   *
   * @return the time; empty if it is not known
   */
  default Optional<Duration> duplicateWindow() {
    return Optional.empty();
  }

  /**
   * Publishes a change, and returns when it is safe.
   *
   * @param change what has happened
   * @return where it is now
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   * @throws PublishException if it is not safe. Publishing it again is harmless if it has an {@linkplain
   *     Change#eventId() id}. Also when interrupted, with the flag set again
   */
  default Outcome publish(Change change) {
    try {
      return send(encode(change)).get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new PublishException(PublishException.Reason.AWAY, "publish interrupted", e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof PublishException failure) {
        throw failure;
      }
      throw new CompletionException(e.getCause());
    }
  }
}
