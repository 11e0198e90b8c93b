package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.events.PublishException.Reason;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamStatusException;
import io.nats.client.Message;
import io.nats.client.api.PublishAck;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Sends messages to a stream and waits for its acknowledgements: as many at a time as may be pending, of one lane one
 * at a time, each within a bound. Until then a message is sent again, under the same message id, when the connection
 * comes back or no stream answers. While there is no connection nothing is handed to the client, which would send it
 * whenever, long after its failure was reported. Thread-safe.
 */
final class Sender {
  static final String MESSAGE_ID = "Nats-Msg-Id";

  /** The server's "JetStream system temporarily unavailable" and "duplicate message id is in process". */
  private static final Set<Integer> TRY_AGAIN = Set.of(10_008, 10_158);

  private static final long GRACE_SECONDS = 1;
  private static final int NO_RESPONDERS = 503;
  private static final long RECONNECT_POLL_MILLIS = 250;
  private static final long RETRY_MILLIS = 100;
  private static final int MAX_SHOWN_SUBJECT = 200;
  private static final int MAX_WHY = 1000;

  private final Connection connection;
  private final ScheduledExecutorService timer;
  private final Semaphore window;
  private final ConcurrentHashMap<String, Lane> lanes = new ConcurrentHashMap<>();
  private final Set<Send> underWay = ConcurrentHashMap.newKeySet();
  private final int windowSize;
  private volatile boolean stopped;

  Sender(Connection connection, int window, ScheduledExecutorService timer) {
    this.connection = connection;
    this.windowSize = window;
    this.window = new Semaphore(window);
    this.timer = timer;
  }

  /**
   * Sends a message. Waits while too many are pending.
   *
   * @param lane messages of one lane are sent in the order of the calls, and when one fails so do those that wait
   *     behind it; null for no order
   * @param bound of everything, the wait for a place included
   * @return the outcome, or a {@link PublishException}; completed by a thread of the client
   */
  CompletableFuture<Outcome> send(
      String subject, Headers headers, byte[] body, @Nullable String lane, Duration bound) {
    Send send = new Send(
        new NatsMessage(subject, null, headers, body), lane, System.nanoTime() + bound.toNanos());
    if (subject.length() > Subjects.MAX_LENGTH) {
      send.fail(
          "the subject has " + subject.length() + " characters, and the limit is "
              + Subjects.MAX_LENGTH,
          null,
          Reason.REFUSED);
      return send.acknowledged;
    }
    if (!fits(headers, body)) {
      send.fail(
          "the message has " + size(headers, body)
              + " bytes with its headers, and the server takes at most "
              + connection.getMaxPayload(),
          null,
          Reason.REFUSED);
      return send.acknowledged;
    }
    if (!enter(send, bound)) {
      return send.acknowledged;
    }
    underWay.add(send);
    if (lane == null || isFirst(lane, send)) {
      attempt(send);
    }
    return send.acknowledged;
  }

  boolean fits(Headers headers, byte[] body) {
    long most = connection.getMaxPayload();
    return most <= 0 || size(headers, body) <= most;
  }

  private static long size(Headers headers, byte[] body) {
    return (long) body.length + headers.serializedLength();
  }

  private boolean enter(Send send, Duration bound) {
    try {
      if (!window.tryAcquire() && !window.tryAcquire(bound.toNanos(), TimeUnit.NANOSECONDS)) {
        send.fail("too many pending events, the limit is " + windowSize, null, Reason.AWAY);
        return false;
      }
      if (!stopped) {
        return true;
      }
      window.release();
      send.fail("the bus is closed", null, Reason.AWAY);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      send.fail("interrupted", interrupted, Reason.AWAY);
    }
    return false;
  }

  /** Puts it in its lane, where nobody is before it or it waits. */
  private boolean isFirst(String lane, Send send) {
    boolean[] first = new boolean[1];
    lanes.compute(lane, (key, busy) -> {
      if (busy == null) {
        first[0] = true;
        return new Lane();
      }
      busy.add(send);
      return busy;
    });
    return first[0];
  }

  private void attempt(Send send) {
    if (send.done.get()) {
      return;
    }
    long left = send.deadline - System.nanoTime();
    Status status = connection.getStatus();
    if (status == Status.CLOSED) {
      failed(send, "the connection is closed", null, Reason.AWAY);
    } else if (left <= 0) {
      late(send, null);
    } else if (status != Status.CONNECTED) {
      send.problem = Problem.NOT_CONNECTED;
      later(send, Math.min(left, TimeUnit.MILLISECONDS.toNanos(RECONNECT_POLL_MILLIS)));
    } else {
      if (!send.problem.equals(Problem.NO_STREAM)) { // else there may be no time for the answer
        send.problem = Problem.NO_ANSWER;
      }
      request(send, left);
    }
  }

  private void request(Send send, long left) {
    CompletableFuture<Message> answer;
    int attempt = send.attempts.incrementAndGet();
    try {
      answer = connection.requestWithTimeout(send.message, Duration.ofNanos(left));
    } catch (IllegalArgumentException refused) {
      failed(send, String.valueOf(refused.getMessage()), refused, Reason.REFUSED);
      return;
    } catch (RuntimeException unavailable) { // the client's queue is full, or the connection gone
      send.problem = Problem.of(unavailable.getMessage());
      later(send, Math.min(left, TimeUnit.MILLISECONDS.toNanos(RETRY_MILLIS)));
      return;
    }
    var unused = answer.whenComplete((message, failure) -> {
      if (failure == null) {
        answered(send, attempt, message);
      } else if (failure instanceof JetStreamStatusException nobody) {
        noAcknowledgement(send, attempt, nobody.getStatus());
      } else if (attempt == send.attempts.get()) {
        // The client gives up at the deadline, or because it closes.
        if (connection.getStatus() == Status.CLOSED) {
          failed(send, "the connection is closed", failure, Reason.AWAY);
        } else {
          late(send, failure);
        }
      }
    });
  }

  private void late(Send send, @Nullable Throwable failure) {
    Problem problem = send.problem;
    String why = "no acknowledgement in time: " + problem.text();
    String error = connection.getLastError();
    if (error != null
        && (problem.equals(Problem.NOT_CONNECTED) // a refused login
            || error.contains(
                '"' + send.message.getSubject() + '"'))) { // a permission that is missing
      why += ", the server's last error: " + Secrets.hide(error);
    }
    failed(send, why, failure, Reason.AWAY);
  }

  private void noAcknowledgement(Send send, int attempt, io.nats.client.support.Status status) {
    retry(
        send,
        attempt,
        status.getCode() == NO_RESPONDERS
            ? Problem.NO_STREAM
            : Problem.of(status.getMessageWithCode()));
  }

  private void answered(Send send, int attempt, Message message) {
    try {
      if (message.isStatusMessage()) {
        noAcknowledgement(send, attempt, message.getStatus());
        return;
      }
      var unused = new PublishAck(message); // throws what the server says against it
      if (send.done.compareAndSet(false, true)) {
        leave(send);
        send.acknowledged.complete(Outcome.STORED);
        next(send);
      }
    } catch (JetStreamApiException refused) {
      if (TRY_AGAIN.contains(refused.getApiErrorCode())) {
        retry(send, attempt, Problem.of(refused.getErrorDescription()));
      } else {
        failed(send, String.valueOf(refused.getMessage()), refused, reason(refused));
      }
    } catch (IOException | RuntimeException unreadable) {
      failed(
          send,
          "the answer is no acknowledgement: " + unreadable.getMessage(),
          unreadable,
          Reason.AWAY);
    }
  }

  private static Reason reason(JetStreamApiException refused) {
    // Those of the server's own kinds (500, 503) never judge the message.
    if (refused.getErrorCode() < 500 && FailureKind.of(refused) == FailureKind.INTERNAL) {
      return Reason.REFUSED;
    }
    return Reason.AWAY;
  }

  private void retry(Send send, int attempt, Problem problem) {
    if (attempt != send.attempts.get()) {
      return; // a later one decides
    }
    send.problem = problem;
    long delay = RETRY_MILLIS / 2 + ThreadLocalRandom.current().nextLong(RETRY_MILLIS);
    later(send, TimeUnit.MILLISECONDS.toNanos(delay));
  }

  /** Unless it is sent before, because the connection has come back. */
  private void later(Send send, long nanos) {
    int before = send.attempts.get();
    Runnable attempt = () -> {
      if (before == send.attempts.get()) {
        attempt(send);
      }
    };
    try {
      var unused = timer.schedule(attempt, nanos, TimeUnit.NANOSECONDS);
    } catch (RejectedExecutionException closing) {
      failed(send, "the bus is closed", closing, Reason.AWAY);
    }
  }

  /** What was sent before the connection was lost may never have arrived; the message id tells the server if it has. */
  void reconnected() {
    for (Send send : underWay) {
      // Those that were not tried yet are waiting for the connection, or for others of their lane.
      if (send.attempts.get() > 0 || send.problem.equals(Problem.NOT_CONNECTED)) {
        attempt(send);
      }
    }
  }

  /** The server does not say for which message a permission is missing, and answers none of them. */
  void error(String error) {
    if (error.contains("Permissions Violation for Publish")) {
      for (Send send : underWay) {
        if (send.attempts.get() > 0 && error.contains('"' + send.message.getSubject() + '"')) {
          failed(send, "the server refuses it: " + error, null, Reason.AWAY);
        }
      }
    }
  }

  private void leave(Send send) {
    if (underWay.remove(send)) {
      window.release();
    }
  }

  private void next(Send done) {
    if (done.lane == null) {
      return;
    }
    @Nullable Send[] next = new @Nullable Send[1];
    lanes.computeIfPresent(done.lane, (key, busy) -> {
      next[0] = busy.poll();
      return next[0] == null ? null : busy;
    });
    if (next[0] != null) {
      attempt(next[0]);
    }
  }

  private void failed(Send send, String why, @Nullable Throwable cause, Reason reason) {
    if (!send.done.compareAndSet(false, true)) {
      return;
    }
    List<Send> behind = new ArrayList<>();
    if (send.lane != null) {
      lanes.computeIfPresent(send.lane, (key, busy) -> {
        for (Send each = busy.poll(); each != null; each = busy.poll()) {
          behind.add(each);
        }
        return null;
      });
    }
    leave(send);
    send.fail(why, cause, reason);
    for (Send each : behind) {
      each.done.set(true);
      leave(each);
      each.fail(
          "an earlier change of the same aggregate was not stored: " + why, cause, Reason.AWAY);
    }
  }

  /** Waits for an outcome that is bounded already, and a little more. */
  static Outcome await(CompletableFuture<Outcome> outcome, String subject, Duration bound) {
    try {
      return outcome.get(bound.plusSeconds(GRACE_SECONDS).toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw failure(Reason.AWAY, subject, "interrupted", interrupted);
    } catch (TimeoutException late) {
      throw failure(Reason.AWAY, subject, "no acknowledgement in time", late);
    } catch (ExecutionException failure) {
      if (failure.getCause() instanceof PublishException known) {
        throw known;
      }
      throw failure(Reason.AWAY, subject, "failed", failure.getCause());
    }
  }

  /** Says what failed, with no more of long texts than somebody reads. */
  static PublishException failure(
      Reason reason, String subject, String why, @Nullable Throwable cause) {
    return new PublishException(
        reason, "publish " + cut(subject, MAX_SHOWN_SUBJECT) + ": " + cut(why, MAX_WHY), cause);
  }

  private static String cut(String text, int length) {
    if (text.length() <= length) {
      return text;
    }
    boolean inPair = Character.isHighSurrogate(text.charAt(length - 1));
    return text.substring(0, inPair ? length - 1 : length) + "...";
  }

  /** Takes nothing more. */
  void stop() {
    stopped = true;
  }

  /** Waits until nothing is under way. */
  void await(Duration bound) throws InterruptedException {
    if (window.tryAcquire(windowSize, bound.toNanos(), TimeUnit.NANOSECONDS)) {
      window.release(windowSize);
    }
  }

  /** Fails what is under way, once nothing more can come of it. */
  void close() {
    for (Send send : underWay) {
      failed(send, "the bus is closed", null, Reason.AWAY);
    }
  }

  /** Why there is no acknowledgement yet. */
  private record Problem(String text) {
    static final Problem WAITS = of("an earlier change of the same aggregate took all of it");
    static final Problem NOT_CONNECTED = of("not connected");
    static final Problem NO_ANSWER = of("the server did not answer");
    static final Problem NO_STREAM = of("no stream takes this subject, or JetStream is not ready");

    static Problem of(@Nullable String text) {
      return new Problem(String.valueOf(text));
    }
  }

  /** One that is busy, and who waits behind, which is nobody most of the time. */
  private static final class Lane {
    private @Nullable Deque<Send> waiting;

    void add(Send send) {
      if (waiting == null) {
        waiting = new ArrayDeque<>(4);
      }
      waiting.add(send);
    }

    @Nullable
    Send poll() {
      return waiting == null ? null : waiting.poll();
    }
  }

  private static final class Send {
    final NatsMessage message;
    final @Nullable String lane;
    final long deadline;
    final CompletableFuture<Outcome> acknowledged = new CompletableFuture<>();
    final AtomicInteger attempts = new AtomicInteger();
    final AtomicBoolean done = new AtomicBoolean();
    volatile Problem problem = Problem.WAITS;

    Send(NatsMessage message, @Nullable String lane, long deadline) {
      this.message = message;
      this.lane = lane;
      this.deadline = deadline;
    }

    void fail(String why, @Nullable Throwable cause, Reason reason) {
      acknowledged.completeExceptionally(
          failure(reason, message.getSubject(), Secrets.hide(why), Secrets.harmless(cause)));
    }
  }
}
