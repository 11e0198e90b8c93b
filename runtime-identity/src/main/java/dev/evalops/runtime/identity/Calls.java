package dev.evalops.runtime.identity;

import java.io.IOException;
import java.net.ConnectException;
import java.net.ProtocolException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLException;
import org.jspecify.annotations.Nullable;

/**
 * Posts JSON. Each call ends within the request timeout, which covers everything from the look-up of the host's name to
 * the last byte of the answer; the JDK's own ends with the headers.
 */
final class Calls {
  private static final int MAX_BODY = 1 << 20;
  private static final String CLOSED = "the client is closed";

  /** An answer; the body is empty if the status is not the expected one and the body could not be read. */
  static final class Answer {
    final int status;
    final byte[] body;

    Answer(int status, byte[] body) {
      this.status = status;
      this.body = body;
    }
  }

  private final HttpClient http;
  private final Duration timeout;
  private final ScheduledExecutorService timer;
  private final Set<Runnable> pending = ConcurrentHashMap.newKeySet();
  private volatile boolean answered;

  Calls(HttpClient http, Duration timeout, ScheduledExecutorService timer) {
    this.http = http;
    this.timeout = timeout;
    this.timer = timer;
  }

  /** Fails with an {@link IdentityException} that says unavailable, and with nothing else. */
  CompletableFuture<Answer> post(URI url, @Nullable String bearer, byte[] json, int expected) {
    return post(url, bearer, json, expected, TimeUnit.NANOSECONDS.convert(timeout));
  }

  /** The same with what is left of the timeout. */
  CompletableFuture<Answer> post(
      URI url, @Nullable String bearer, byte[] json, int expected, long nanos) {
    if (timer.isShutdown()) {
      return CompletableFuture.failedFuture(
          IdentityException.unavailable("identity_request: " + CLOSED, null));
    }
    HttpRequest.Builder request = HttpRequest.newBuilder(url)
        .header("Content-Type", "application/json")
        .POST(BodyPublishers.ofByteArray(json));
    if (bearer != null) {
      request.header("Authorization", "Bearer " + bearer);
    }
    AtomicInteger status = new AtomicInteger();
    CompletableFuture<Answer> answer = new CompletableFuture<>();
    CompletableFuture<HttpResponse<byte[]>> sent;
    try {
      sent = http.sendAsync(request.build(), head -> {
        status.set(head.statusCode());
        return new CappedBody(MAX_BODY);
      });
    } catch (RuntimeException e) {
      return CompletableFuture.failedFuture(
          IdentityException.unavailable("identity_request: " + describe(e, bearer), null));
    }
    Runnable cancel = () -> sent.cancel(true);
    pending.add(cancel);
    Runnable late = () -> {
      String problem = "no complete answer within " + timeout.toMillis() + " ms";
      end(answer, status.get(), expected, problem, null, false);
      cancel.run();
    };
    Future<?> deadline;
    try {
      deadline = timer.schedule(late, nanos, TimeUnit.NANOSECONDS);
    } catch (RejectedExecutionException e) {
      cancel.run();
      pending.remove(cancel);
      return CompletableFuture.failedFuture(
          IdentityException.unavailable("identity_request: " + CLOSED, null));
    }
    var unused = sent.whenComplete((response, failure) -> {
      deadline.cancel(false);
      pending.remove(cancel);
      if (failure == null) {
        answered = true;
        answer.complete(new Answer(response.statusCode(), response.body()));
        return;
      }
      Throwable cause = failure instanceof CompletionException && failure.getCause() != null
          ? failure.getCause()
          : failure;
      String problem = timer.isShutdown() ? CLOSED : describe(cause, bearer);
      boolean lost = answered && !timer.isShutdown() && isLost(cause);
      end(answer, status.get(), expected, problem, tells(cause, bearer) ? null : cause, lost);
    });
    return answer;
  }

  private static void end(
      CompletableFuture<Answer> answer,
      int status,
      int expected,
      String problem,
      @Nullable Throwable cause,
      boolean lost) {
    if (status != 0 && status != expected) {
      answer.complete(new Answer(status, new byte[0])); // which is all that its status needs
      return;
    }
    if (status != 0) {
      answer.completeExceptionally(
          IdentityException.unavailable("read_response: " + problem, cause));
      return;
    }
    String detail = "identity_request: " + problem;
    answer.completeExceptionally(
        lost
            ? IdentityException.lost(detail, cause)
            : IdentityException.unavailable(detail, cause));
  }

  /** Not one that could not be made, or brought what is no answer. */
  private static boolean isLost(Throwable failure) {
    return failure instanceof IOException
        && !(failure instanceof ConnectException
            || failure instanceof HttpTimeoutException
            || failure instanceof ProtocolException
            || failure instanceof SSLException);
  }

  private static String describe(Throwable failure, @Nullable String secret) {
    String type = failure.getClass().getSimpleName();
    return failure.getMessage() == null || tells(failure, secret)
        ? type
        : type + ": " + failure.getMessage();
  }

  /** Whether the secret is in a message: a server that sends the request back gets it into the JDK's complaint. */
  private static boolean tells(Throwable failure, @Nullable String secret) {
    if (secret == null) {
      return false;
    }
    for (Throwable each = failure; each != null; each = each.getCause()) {
      if (String.valueOf(each.getMessage()).contains(secret)) {
        return true;
      }
      for (Throwable suppressed : each.getSuppressed()) {
        if (tells(suppressed, secret)) {
          return true;
        }
      }
    }
    return false;
  }

  /** Ends the calls that are under way. */
  void close() {
    pending.forEach(Runnable::run);
  }
}
