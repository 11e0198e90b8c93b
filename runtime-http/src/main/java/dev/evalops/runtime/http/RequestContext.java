package dev.evalops.runtime.http;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * What belongs to one request and to nobody else. {@link HttpExchange#setAttribute} of the JDK's server is shared by
 * all requests of a context up to Java 25; on an exchange that comes from this library it is not.
 *
 * <p>Values may be read and put from any thread; everything else belongs to the thread that handles the request, or
 * that answers it after {@link #suspend}.
 */
public final class RequestContext {
  /** The route of a request that no registered path matches. */
  public static final String UNMATCHED = "unmatched";

  static final String ATTRIBUTE = RequestContext.class.getName();

  /**
   * The name of a value of one type. Two keys are never equal, whatever their names.
   *
   * @param <T> the type of the value
   */
  @SuppressWarnings("UnusedTypeParameter") // Ties what is put to what is got.
  public static final class Key<T> {
    private final String name;

    private Key(String name) {
      this.name = Objects.requireNonNull(name, "name");
    }

    /**
     * Returns a new key; keep it in a static field.
     *
     * @param name for {@link #toString()} alone
     * @param <T> the type of the value
     * @return the key
     */
    public static <T> Key<T> of(String name) {
      return new Key<>(name);
    }

    @Override
    public String toString() {
      return name;
    }
  }

  /**
   * The end of a request that is answered after its handler has returned; see {@link RequestContext#suspend}. A request
   * ends once: the first call of either method counts, and none does once the handler has thrown something.
   *
   * <p>Thread-safe.
   */
  public static final class Suspension {
    private enum State {
      HANDLING,
      RETURNED,
      RESUMED,
      ENDED
    }

    private final GuardedExchange exchange;
    private final ReentrantLock lock = new ReentrantLock();
    private State state = State.HANDLING;
    private @Nullable Throwable failure;

    Suspension(GuardedExchange exchange) {
      this.exchange = exchange;
    }

    /**
     * Ends the request: its filters learn what became of it, and the client gets the end of the response. When the
     * handler has not returned yet, that happens when it does. Nobody may use the exchange from now on.
     *
     * @param failure why the request failed, answered as if the handler had thrown it; null if it has been answered
     */
    public void resume(@Nullable Throwable failure) {
      resume(failure, null);
    }

    /**
     * Ends the request of a client that went away, when a server tells so; {@link #resume} sees by itself that a
     * response cannot be written.
     *
     * @param failure what the server told
     */
    public void abandon(IOException failure) {
      resume(failure, Objects.requireNonNull(failure, "failure"));
    }

    private void resume(@Nullable Throwable why, @Nullable IOException gone) {
      lock.lock();
      try {
        if (state != State.HANDLING && state != State.RETURNED) {
          return;
        }
        if (gone != null) {
          exchange.clientGone(gone);
        }
        failure = why;
        if (state == State.HANDLING) {
          state = State.RESUMED;
          return;
        }
        state = State.ENDED;
      } finally {
        lock.unlock();
      }
      try {
        end(why);
      } catch (IOException e) {
        exchange.abort();
      }
    }

    /** The handler has returned, or thrown something. */
    void returned(@Nullable Throwable thrown) throws IOException {
      lock.lock();
      try {
        if (state == State.HANDLING && thrown == null) {
          state = State.RETURNED;
          return;
        }
        state = State.ENDED;
      } finally {
        lock.unlock();
      }
      end(thrown == null ? failure : thrown);
    }

    private void end(@Nullable Throwable why) throws IOException {
      try {
        Guard.finish(exchange, why);
      } finally {
        exchange.dealtWith();
      }
    }
  }

  /** An action, and those that were added before it. */
  private record Pending<T>(T action, @Nullable Pending<T> next) {}

  private final GuardedExchange exchange;
  // By Key, and by String for the attributes of the exchange.
  private final Map<Object, Object> values = new ConcurrentHashMap<>(4);
  private @Nullable Pending<Consumer<? super Headers>> beforeResponse;
  private @Nullable Pending<Runnable> onComplete;
  private @Nullable Map<String, Supplier<?>> logged;
  private Routes.@Nullable Path matched;
  private String route;
  private String path;
  private @Nullable String requestId;
  private @Nullable Throwable failure;
  private @Nullable HttpPrincipal principal;

  RequestContext(GuardedExchange exchange, String route, String path) {
    this.exchange = exchange;
    this.route = route;
    this.path = path;
  }

  /**
   * Returns the context of a request. It is found through wrappers that other filters have put around the exchange, as
   * long as they pass {@link HttpExchange#getAttribute} on.
   *
   * @param exchange an exchange that a filter or handler of {@link HttpService} or {@link HttpFilters#chain} was given
   * @return its context
   * @throws IllegalStateException if the exchange comes from elsewhere
   */
  public static RequestContext of(HttpExchange exchange) {
    RequestContext found = find(exchange);
    if (found == null) {
      throw new IllegalStateException("the exchange does not come from HttpService or"
          + " HttpFilters.chain(handler, filters...); put the handler behind one of them");
    }
    return found;
  }

  /**
   * Lets the handler return before the request has been answered; it is open until {@link Suspension#resume}, however
   * long that takes, and {@link HttpService#close} waits for it. The exchange may then be used by another thread, by
   * one at a time. What filters do behind {@code chain.doFilter} is done when the handler returns; {@link
   * #beforeResponse} and {@link #onComplete} are as late as the response.
   *
   * @param exchange the exchange that the handler was given
   * @return what ends the request
   * @throws IllegalStateException if the request is suspended already; if a filter has put an exchange of its own
   *     around that of the service, since it would take the request for answered when the handler returns; if a servlet
   *     container does not let the request be asynchronous; or as {@link #of}
   */
  public static Suspension suspend(HttpExchange exchange) {
    if (!maySuspend(exchange)) {
      throw new IllegalStateException("a filter has wrapped the exchange and would take the request"
          + " for answered when its handler returns; answer before that");
    }
    return of(exchange).exchange.suspend();
  }

  /**
   * Tells whether {@link #suspend} takes an exchange that is not suspended: not if a filter has put one of its own
   * around that of the service.
   *
   * @param exchange the exchange that the handler was given
   * @return whether it may be suspended
   * @throws IllegalStateException as {@link #of}
   */
  public static boolean maySuspend(HttpExchange exchange) {
    return exchange.equals(of(exchange).exchange.forHandler());
  }

  static @Nullable RequestContext find(HttpExchange exchange) {
    return exchange instanceof GuardedExchange guarded
        ? guarded.context()
        : (RequestContext) exchange.getAttribute(ATTRIBUTE);
  }

  /**
   * Returns the id of the request: what {@link HttpFilters#requestId()} accepted or made. Without that filter one is
   * made here.
   *
   * @return 1 to 128 printable ASCII characters
   */
  public String requestId() {
    String id = requestId;
    if (id == null) {
      id = RequestRules.newRequestId();
      requestId = id;
    }
    return id;
  }

  void requestId(String id) {
    requestId = id;
  }

  /**
   * Returns the route template, for metric labels and span names: the path that the handler was registered with,
   * without the method, or {@link #UNMATCHED}; or what a router within a handler has set.
   *
   * @return for example {@code /v1/notes/{id}}; never the path of the request
   */
  public String route() {
    return route;
  }

  /**
   * Sets the route template, for a router within a handler.
   *
   * @param template one of a fixed set, for example {@code /v1/notes/{id}}
   */
  public void route(String template) {
    route = Objects.requireNonNull(template, "template");
  }

  void matched(Routes.Path path) {
    matched = path;
    route = path.label();
  }

  String pathValue(String name) {
    Routes.Path found = matched;
    if (found == null) {
      throw new IllegalArgumentException("route " + route + " has no {" + name + "}");
    }
    return found.value(path, name);
  }

  /**
   * Returns the path of the request that routes were matched with: percent-decoded, without dot segments and empty
   * segments.
   *
   * @return starts with {@code /}
   */
  public String path() {
    return path;
  }

  void path(String normalised) {
    path = normalised;
  }

  /**
   * Returns a value that was put.
   *
   * @param key its key
   * @param <T> its type
   * @return the value, if any
   */
  @SuppressWarnings("unchecked") // put takes a value of the key's type alone
  public <T> Optional<T> get(Key<T> key) {
    return Optional.ofNullable((T) values.get(key));
  }

  /**
   * Keeps a value for the rest of the request, in place of an earlier one.
   *
   * @param key its key
   * @param value the value
   * @param <T> its type
   */
  public <T> void put(Key<T> key, T value) {
    values.put(key, Objects.requireNonNull(value, "value"));
  }

  void bodyLimit(long bytes) {
    exchange.bodyLimit(bytes);
  }

  void checkBody() throws IOException {
    exchange.checkDeclaredLength();
    exchange.readAhead();
  }

  Map<Object, Object> values() {
    return values;
  }

  /**
   * Sets what {@link HttpExchange#getPrincipal()} returns from now on.
   *
   * @param principal who calls
   */
  public void principal(HttpPrincipal principal) {
    this.principal = Objects.requireNonNull(principal, "principal");
  }

  @Nullable
  HttpPrincipal principal() {
    return principal;
  }

  /**
   * Whether the service is shutting down: it still answers, and is no longer ready.
   *
   * @return false for a handler that no {@link HttpService} runs
   */
  public boolean draining() {
    return exchange.draining();
  }

  /**
   * Returns why the service refuses the request, which no handler will see: it is malformed, or too many are in flight.
   * Filters see it for logs, metrics and spans; whatever they do, the refusal is the answer. One whose work costs
   * something passes it on.
   *
   * @return empty for a request that a handler is there for
   */
  public Optional<ServiceException> refusal() {
    return Optional.ofNullable(exchange.refusal());
  }

  /**
   * Returns the status that was sent.
   *
   * @return -1 until the response begins, and for actions given to {@link #onComplete} if it was cut short or could not
   *     be sent
   */
  public int status() {
    return exchange.getResponseCode();
  }

  /**
   * Returns what a handler or filter has thrown, for actions given to {@link #onComplete}.
   *
   * @return empty for a request that went well
   */
  public Optional<Throwable> failure() {
    return Optional.ofNullable(failure);
  }

  void failure(Throwable failure) {
    this.failure = failure;
  }

  /**
   * Adds an action that runs once when the status is known and before anything is sent, for responses of any origin,
   * errors too: the last moment to set a header. The last one added runs first; when one throws, the others run all the
   * same and the response becomes an internal error.
   *
   * @param action is given the response headers
   */
  public void beforeResponse(Consumer<? super Headers> action) {
    beforeResponse = new Pending<>(Objects.requireNonNull(action, "action"), beforeResponse);
  }

  void runBeforeResponse(Headers headers) {
    RuntimeException failed = null;
    Pending<Consumer<? super Headers>> pending;
    while ((pending = beforeResponse) != null) {
      beforeResponse = pending.next;
      try {
        pending.action.accept(headers);
      } catch (RuntimeException e) {
        failed = e;
      }
    }
    if (failed != null) {
      throw failed;
    }
  }

  /**
   * Adds a key-value to the line of {@link HttpFilters#requestLog}.
   *
   * @param key its name; a second value of the same name takes the place of the first
   * @param value asked for when the line is written; the name of the exception takes its place if it throws
   */
  public void logged(String key, Supplier<?> value) {
    if (logged == null) {
      logged = new LinkedHashMap<>(4);
    }
    logged.put(Objects.requireNonNull(key, "key"), Objects.requireNonNull(value, "value"));
  }

  Map<String, Supplier<?>> logged() {
    return logged == null ? Map.of() : logged;
  }

  /**
   * Adds an action that runs once when the request has been dealt with, for failures too: {@link #status()} is what was
   * sent, {@link #failure()} why. The client sees the end of the response afterwards. The last one added runs first;
   * what an action throws is logged and changes nothing.
   *
   * @param action what to do
   */
  public void onComplete(Runnable action) {
    onComplete = new Pending<>(Objects.requireNonNull(action, "action"), onComplete);
  }

  @Nullable
  Runnable nextOnComplete() {
    Pending<Runnable> pending = onComplete;
    if (pending == null) {
      return null;
    }
    onComplete = pending.next;
    return pending.action;
  }
}
