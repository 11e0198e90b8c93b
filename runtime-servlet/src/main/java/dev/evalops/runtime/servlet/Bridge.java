package dev.evalops.runtime.servlet;

import static java.util.Objects.requireNonNull;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.RequestContext;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.FilterChain;
import jakarta.servlet.RequestDispatcher;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One request, from the container through our filters to the application and back. The exchange ends once, {@link
 * #ended}: on the container's thread, or for an asynchronous request on that of whoever completes it.
 */
final class Bridge {
  private static final Logger LOG = LoggerFactory.getLogger(Servlets.class);

  static final String ATTRIBUTE = Bridge.class.getName();

  private static final String SPRING_PATTERN =
      "org.springframework.web.servlet.HandlerMapping.bestMatchingPattern";
  private static final String NOT_SUPPORTED =
      "a filter or servlet of the application does not support asynchronous processing";
  private static final Duration TURN_OF_TOMCAT = Duration.ofSeconds(5);

  private final HttpServletRequest request;
  private final HttpServletResponse response;
  private final FilterChain chain;
  private final ServletExchange raw;
  private @Nullable HttpExchange exchange;
  private @Nullable BridgedResponse bridged;
  private RequestContext.@Nullable Suspension suspension;
  // Of the first thread, for those that continue the request.
  private UnaryOperator<Runnable> withSpan = UnaryOperator.identity();
  // The asynchronous cycle that the container waits for; none once it has been told to dispatch or
  // complete.
  private volatile @Nullable Async waiting;
  private volatile @Nullable Async latest;
  private final ReentrantLock end = new ReentrantLock();
  private volatile boolean over;
  private volatile boolean cut;
  // Of the thread that the container has given us: asynchronous processing was started on it; it
  // has to cut the response.
  private boolean started;
  private boolean cuts;
  // That thread, or one of the container that tells us something.
  private volatile @Nullable Thread ofContainer;
  // See leftToTomcat.
  private boolean onTomcat;
  private volatile boolean turnIsOver;
  private boolean upgraded;

  Bridge(HttpServletRequest request, HttpServletResponse response, FilterChain chain) {
    this.request = request;
    this.response = response;
    this.chain = chain;
    this.raw = new ServletExchange(request, response, this);
  }

  static @Nullable Bridge find(ServletRequest request) {
    return request.getAttribute(ATTRIBUTE) instanceof Bridge bridge ? bridge : null;
  }

  /** Runs our filters and handlers. */
  void serve(HttpHandler handler) throws IOException {
    request.setAttribute(ATTRIBUTE, this);
    try {
      handler.handle(raw.typed());
      if (suspension != null && latest == null) {
        waitForHandler();
      }
    } catch (Throwable t) { // reported already: the response could not be ended
      ended(false);
    }
    ofContainer = null;
    cutHere();
  }

  /** Runs the application. */
  void next(HttpExchange exchange) throws IOException, ServletException {
    if (this.exchange != null) {
      throw new IllegalStateException("Servlets.next() can answer a request only once");
    }
    RequestContext context = RequestContext.of(exchange);
    if (!context.path().equals(ServletExchange.dispatched(request))) {
      throw ServiceException.of(
              ErrorCode.INVALID_INPUT, "request path must not have parameters or other spellings")
          .op("servlet.path");
    }
    this.exchange = exchange;
    BridgedResponse answer = new BridgedResponse(response, exchange, this);
    bridged = answer;
    BridgedRequest asked =
        new BridgedRequest(request, answer.forApplication(), exchange, raw, this);
    ofContainer = Thread.currentThread();
    try {
      chain.doFilter(asked, answer.forApplication());
    } catch (Throwable t) {
      if (started) {
        take(answer);
      }
      throw t;
    } finally {
      setRoute(context);
    }
    if (!started) {
      answer.finish();
      if (suspension != null) {
        suspension.resume(null); // the container did not let it be asynchronous, and it went on
      }
    } else {
      endIfClientGone();
    }
  }

  private void setRoute(RequestContext context) {
    if (request.getAttribute(SPRING_PATTERN) instanceof String pattern) {
      context.route(pattern.equals("/**") ? RequestContext.UNMATCHED : pattern);
    }
  }

  @Nullable
  HttpExchange exchange() {
    return exchange;
  }

  HttpServletRequest request() {
    return request;
  }

  /** Whether the response was cut short: nobody must add to it. */
  boolean cut() {
    return cut;
  }

  /** Whether the container has answered by itself, as Jetty does for a WebSocket. */
  boolean answeredBelow() {
    return upgraded || response.isCommitted();
  }

  boolean upgraded() {
    return upgraded;
  }

  /** The application has handed the connection to another protocol. */
  void upgrade() {
    upgraded = true;
  }

  /** Answers 101 by the container itself, as Jetty wants it for a WebSocket; a filter could not answer so. */
  void switchProtocols() throws IOException {
    raw.copyHeaders();
    response.setStatus(HttpServletResponse.SC_SWITCHING_PROTOCOLS);
    response.getOutputStream().close();
    upgraded = true;
  }

  /**
   * A write has failed. On a thread of the application that ends an asynchronous request: Jetty does not tell its
   * listener while the container's own thread is still in the application.
   */
  void clientWent(IOException gone) {
    Async async = waiting;
    if (async != null && async.isOpen() && Thread.currentThread() != ofContainer) {
      apart(() -> async.lost(gone));
    }
  }

  /** Apart from the thread that writes, for which the end waits; on Tomcat when that should have done it by itself. */
  private void apart(Runnable end) {
    Thread.ofVirtual().name("servlet-client-gone").start(() -> {
      if (onTomcat) {
        try {
          Thread.sleep(TURN_OF_TOMCAT);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
        turnIsOver = true;
      }
      end.run();
    });
  }

  /**
   * When a write of an asynchronous request has failed, Tomcat tells its listener on a thread of its own, and takes any
   * thread that completes or dispatches the request from then on for that one: done by another at the same time, the
   * request would be neither completed nor dispatched.
   */
  private boolean leftToTomcat() {
    return onTomcat
        && !turnIsOver
        && raw.clientGone() != null
        && Thread.currentThread() != ofContainer;
  }

  /**
   * Writes, flushes or closes, and throws what has failed then: Tomcat keeps to itself that it could not end the
   * response, which it does by itself in the write that completes the announced length. On its own thread it looks for
   * that when the application has returned.
   */
  void send(Sending sending) throws IOException {
    if (!onTomcat || Thread.currentThread() == ofContainer) {
      sending.run();
      return;
    }
    Object before = failureOfTomcat();
    sending.run();
    Object after = failureOfTomcat();
    if (!Objects.equals(after, before) && after instanceof IOException gone) {
      throw gone;
    }
  }

  private @Nullable Object failureOfTomcat() throws IOException {
    try {
      return request.getAttribute(RequestDispatcher.ERROR_EXCEPTION);
    } catch (IllegalStateException e) { // Tomcat has taken it away from this request
      throw new IOException("the container has given the request up", e);
    }
  }

  /** Whether Tomcat knows of the failure; another is that of a filter before ours, which wraps the response. */
  private boolean isKnown(IOException gone) throws IOException {
    Object failure = failureOfTomcat();
    return gone.getClass().getName().startsWith("org.apache.")
        || gone.equals(failure)
        || (failure != null && failure.equals(gone.getCause()));
  }

  /** The container's own thread has written in vain, and leaves the application. */
  private void endIfClientGone() {
    Async async = waiting;
    IOException gone = raw.clientGone();
    if (async != null && gone != null && async.isOpen()) {
      async.failed(gone);
    }
  }

  /** The exchange has ended. */
  void ended(boolean whole) {
    Async async;
    end.lock();
    try {
      if (over) {
        return;
      }
      async = waiting;
      waiting = null;
      cut = !whole;
      cuts = cut && async == null;
      over = true; // the last, for who looks without the lock
    } finally {
      end.unlock();
    }
    if (async != null) {
      release(async);
    }
  }

  /** Lets the container end an asynchronous request. */
  private void release(Async async) {
    if (cut && raw.clientGone() == null) {
      async.container.dispatch(); // only a thread of its own takes an exception; see dispatched
    } else if (leftToTomcat()) {
      apart(() -> complete(async));
    } else {
      complete(async);
    }
  }

  private void complete(Async async) {
    if (async.toldOfEnd.get()) {
      return;
    }
    try {
      async.container.complete();
    } catch (IllegalStateException e) {
      if (raw.clientGone() == null) {
        throw e;
      }
      // It has seen by itself that the client went away, and has completed the request or, as
      // Tomcat at times, forgotten it.
      async.tellOfEnd();
    }
  }

  /** Makes the container close the connection, or the stream of it that the response has. */
  private void cutHere() throws IOException {
    if (!cuts) {
      return;
    }
    IOException gone = raw.clientGone();
    if (gone != null && onTomcat && isKnown(gone)) {
      return; // it would log this as a failure of the servlet
    }
    if (gone != null) {
      throw gone; // its own, which it does not take for a failure of ours
    }
    response.flushBuffer(); // else the container would put a page of its own in its place
    if (!request.getProtocol().startsWith("HTTP/1")) {
      breakEndOfStream();
    }
    throw new IOException("response cut short");
  }

  /** Tomcat would end the stream of HTTP/2 in good order before it resets it; with this it cannot. */
  private void breakEndOfStream() {
    try {
      response.setTrailerFields(() -> {
        throw new IllegalStateException("response cut short");
      });
    } catch (IllegalStateException e) {
      // It is too late for trailers, says Jetty, which resets the stream anyway.
      LOG.atTrace().setCause(e).log("no trailers");
    }
  }

  /** The container dispatches an asynchronous request, as the application has asked it to. */
  void dispatched(ServletRequest request, ServletResponse response, FilterChain chain)
      throws IOException {
    if (over) {
      cuts = cut;
      cutHere();
      return;
    }
    started = false;
    AtomicReference<@Nullable Throwable> failure = new AtomicReference<>();
    ofContainer = Thread.currentThread();
    try {
      withSpan
          .apply(() -> {
            try {
              chain.doFilter(request, response);
            } catch (Throwable t) {
              failure.set(t);
            }
          })
          .run();
      if (failure.get() != null || !started) {
        end(failure.get());
      } else {
        endIfClientGone();
      }
    } finally {
      ofContainer = null;
    }
    cutHere();
  }

  /** Ends an asynchronous request. */
  private void end(@Nullable Throwable thrown) {
    Throwable failure = thrown;
    HttpExchange answered = exchange;
    BridgedResponse answer = bridged;
    RequestContext.Suspension ending = suspension;
    if (ending == null) {
      throw new IllegalStateException("the request is not asynchronous");
    }
    if (answered == null || answer == null) { // a handler of ours was to answer
      ending.resume(failure);
      return;
    }
    try {
      setRoute(RequestContext.of(answered));
      if (failure == null) {
        answer.finish();
      }
    } catch (Throwable t) {
      failure = t;
    }
    if (failure != null) {
      take(answer);
    }
    ending.resume(failure);
  }

  /** From now on threads of the application neither write nor complete. */
  private void take(BridgedResponse answer) {
    Async async = latest;
    if (async != null) {
      async.done.set(true);
    }
    answer.take();
  }

  /** A handler or the application answers later. */
  void suspended(RequestContext.Suspension by) {
    if (!request.isAsyncSupported()) {
      throw new IllegalStateException(NOT_SUPPORTED);
    }
    suspension = by;
    // Not by the class of the request or of its asynchronous context, which filters before ours
    // may wrap.
    onTomcat = request.getServletContext().getClass().getName().startsWith("org.apache.catalina.");
  }

  /** A handler of ours has returned before it has answered: the container waits, without a limit of its own. */
  private void waitForHandler() {
    if (over) {
      return;
    }
    Async async = begin(request.startAsync(), request, response);
    async.container.setTimeout(0);
    boolean ended;
    end.lock();
    try {
      ended = over;
      cuts = false;
      waiting = ended ? null : async;
    } finally {
      end.unlock();
    }
    if (ended) {
      release(async);
    } else {
      endIfClientGone();
    }
  }

  private Async begin(AsyncContext container, ServletRequest request, ServletResponse response) {
    Async async = new Async(container, request, response);
    latest = async;
    container.addListener(async);
    return async;
  }

  AsyncContext startAsync(ServletRequest request, ServletResponse response) {
    HttpExchange answered = exchange;
    if (answered == null || !this.request.isAsyncSupported()) {
      throw new IllegalStateException(NOT_SUPPORTED);
    }
    if (suspension == null) {
      suspension = RequestContext.suspend(answered);
      withSpan = CurrentSpan.carrier();
    }
    Async before = latest;
    Async async = begin(this.request.startAsync(request, response), request, response);
    presetFailure();
    waiting = async;
    started = true;
    if (before != null) {
      before.tell(async, null, AsyncListener::onStartAsync);
    }
    return async;
  }

  /** What is left if the application dispatches an asynchronous request to where our filter is not. */
  void presetFailure() {
    if (latest != null) {
      response.setStatus(HttpServletResponse.SC_INTERNAL_SERVER_ERROR);
    }
  }

  AsyncContext asyncContext() {
    Async async = latest;
    if (async == null || !request.isAsyncStarted()) {
      throw new IllegalStateException("asynchronous processing has not been started");
    }
    return async;
  }

  interface Sending {
    void run() throws IOException;
  }

  private interface Told {
    void tell(AsyncListener listener, AsyncEvent event) throws IOException;
  }

  /** From one {@code startAsync} to the next {@code dispatch} or {@code complete}. */
  private final class Async implements AsyncContext, AsyncListener {
    private record Added(
        AsyncListener listener,
        @Nullable ServletRequest request,
        @Nullable ServletResponse response) {}

    private final AsyncContext container;
    private final ServletRequest request;
    private final ServletResponse response;
    private final AtomicBoolean done = new AtomicBoolean();
    private final AtomicBoolean toldOfFailure = new AtomicBoolean();
    private final AtomicBoolean toldOfEnd = new AtomicBoolean();
    private final ReentrantLock lock = new ReentrantLock();
    // The container has one listener, so that what we answer comes after what these answer.
    private final List<Added> listeners = new CopyOnWriteArrayList<>();

    Async(AsyncContext container, ServletRequest request, ServletResponse response) {
      this.container = container;
      this.request = request;
      this.response = response;
    }

    boolean isOpen() {
      return !over && !done.get();
    }

    private void finish() {
      if (over || !done.compareAndSet(false, true)) {
        throw new IllegalStateException("the request has been completed or dispatched already");
      }
    }

    @Override
    public void complete() {
      exclusively(() -> {
        if (!endsWithTheClient()) {
          finish();
          end(null);
        }
      });
    }

    @Override
    public void dispatch() {
      dispatch(container::dispatch);
    }

    @Override
    public void dispatch(String path) {
      dispatch(() -> container.dispatch(path));
    }

    @Override
    public void dispatch(ServletContext context, String path) {
      dispatch(() -> container.dispatch(context, path));
    }

    private void dispatch(Runnable dispatch) {
      exclusively(() -> {
        if (!endsWithTheClient()) {
          finish();
          waiting = null;
          dispatch.run();
        }
      });
    }

    /** Then complete and dispatch do nothing, for the application may be about to learn it. */
    private boolean endsWithTheClient() {
      return (done.get() && raw.clientGone() != null) || leftToTomcat();
    }

    @Override
    public void onTimeout(AsyncEvent event) {
      ofContainer = Thread.currentThread();
      try {
        tell(this, null, AsyncListener::onTimeout);
        endBy(ServiceException.of(ErrorCode.UNAVAILABLE).op("servlet.async_timeout"));
      } finally {
        ofContainer = null;
      }
    }

    @Override
    public void onError(AsyncEvent event) {
      Throwable failure = event.getThrowable();
      ofContainer = Thread.currentThread();
      try {
        failed(
            failure == null
                ? new IllegalStateException("asynchronous processing failed")
                : failure);
      } finally {
        ofContainer = null;
      }
    }

    void failed(Throwable failure) {
      if (failure instanceof IOException gone) {
        raw.gone(gone);
      }
      if (!toldOfEnd.get() && toldOfFailure.compareAndSet(false, true)) {
        tell(this, failure, AsyncListener::onError);
      }
      endBy(failure);
    }

    private void endBy(Throwable failure) {
      exclusively(() -> {
        if (mayEnd()) {
          IOException gone = raw.clientGone();
          if (gone != null) {
            abandon(gone);
          } else {
            end(failure);
          }
        }
      });
    }

    /** What the container should have told: it hears nothing of a complete or dispatch any more. */
    void lost(IOException gone) {
      if (mayEnd()) {
        if (toldOfFailure.compareAndSet(false, true)) {
          tell(this, gone, AsyncListener::onError);
        }
        exclusively(() -> abandon(gone));
      }
    }

    private boolean mayEnd() {
      return !over && done.compareAndSet(false, true);
    }

    private void abandon(IOException gone) {
      BridgedResponse answer = bridged;
      if (answer != null) {
        take(answer);
      }
      requireNonNull(suspension).abandon(gone);
    }

    /**
     * The container waits here for a thread of the application that ends the request, as it waits in {@link #take} for
     * one that writes: it would give what that thread uses to another request.
     */
    private void exclusively(Runnable action) {
      lock.lock();
      try {
        action.run();
      } finally {
        lock.unlock();
      }
    }

    @Override
    public void onComplete(AsyncEvent event) {
      tellOfEnd();
      RequestContext.Suspension ending = suspension;
      IOException gone = raw.clientGone();
      if (over || ending == null) {
        return;
      }
      if (gone != null) { // it may have been dispatched then, which the container drops
        ending.abandon(gone);
      } else {
        ending.resume(new IllegalStateException(
            "the request was dispatched to where the filter of Servlets.addTo is not"));
      }
    }

    void tellOfEnd() {
      if (toldOfEnd.compareAndSet(false, true)) {
        tell(this, null, AsyncListener::onComplete);
      }
    }

    /** Does nothing: the next cycle tells the listeners of this one. */
    @Override
    public void onStartAsync(AsyncEvent event) {}

    private void tell(AsyncContext context, @Nullable Throwable failure, Told told) {
      for (Added added : listeners) {
        try {
          told.tell(
              added.listener, new AsyncEvent(context, added.request, added.response, failure));
        } catch (IOException | RuntimeException e) {
          LOG.atWarn().setCause(e).log("an asynchronous listener failed");
        }
      }
    }

    @Override
    public void addListener(AsyncListener listener) {
      listeners.add(new Added(listener, null, null));
    }

    @Override
    public void addListener(
        AsyncListener listener, ServletRequest request, ServletResponse response) {
      listeners.add(new Added(listener, request, response));
    }

    @Override
    public <T extends AsyncListener> T createListener(Class<T> type) throws ServletException {
      return container.createListener(type);
    }

    @Override
    public void start(Runnable task) {
      container.start(withSpan.apply(task));
    }

    @Override
    public void setTimeout(long millis) {
      container.setTimeout(millis);
    }

    @Override
    public long getTimeout() {
      return container.getTimeout();
    }

    @Override
    public ServletRequest getRequest() {
      return request;
    }

    @Override
    public ServletResponse getResponse() {
      return response;
    }

    @Override
    public boolean hasOriginalRequestAndResponse() {
      return request instanceof BridgedRequest;
    }
  }
}
