package dev.evalops.runtime.observability.opentelemetry;

import io.lettuce.core.protocol.CompleteableCommand;
import io.lettuce.core.protocol.RedisCommand;
import io.lettuce.core.tracing.TraceContext;
import io.lettuce.core.tracing.TraceContextProvider;
import io.lettuce.core.tracing.Tracer;
import io.lettuce.core.tracing.TracerProvider;
import io.lettuce.core.tracing.Tracing;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.context.Context;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import org.jspecify.annotations.Nullable;

/**
 * A client span for every Redis command of a Lettuce client, in the trace of the caller, after OpenTelemetry's <a
 * href="https://opentelemetry.io/docs/specs/semconv/database/redis/">conventions for Redis</a>. Neither arguments nor
 * the texts of errors are recorded: either may hold secrets.
 *
 * <pre>{@code
 * Redis.builder(url).configureResources(resources -> resources.tracing(RedisTracing.of(openTelemetry))).open();
 * }</pre>
 */
public final class RedisTracing {
  private static final AttributeKey<String> SYSTEM = AttributeKey.stringKey("db.system.name");
  private static final AttributeKey<String> OPERATION = AttributeKey.stringKey("db.operation.name");
  private static final AttributeKey<String> SERVER = AttributeKey.stringKey("server.address");
  private static final AttributeKey<Long> PORT = AttributeKey.longKey("server.port");
  private static final AttributeKey<String> ERROR_TYPE = AttributeKey.stringKey("error.type");

  private RedisTracing() {}

  /**
   * Returns what Lettuce's client resources take; needs {@code lettuce-core}.
   *
   * @param openTelemetry makes the spans
   * @return thread-safe
   */
  public static Tracing of(OpenTelemetry openTelemetry) {
    return new CommandTracing(openTelemetry.getTracer("dev.evalops.runtime.observability"));
  }

  private record Server(InetSocketAddress address) implements Tracing.Endpoint {}

  private record Unknown() implements Tracing.Endpoint {}

  private record Caller(Context context) implements TraceContext {}

  private static final class CommandTracing extends Tracer
      implements Tracing, TracerProvider, TraceContextProvider {
    private final io.opentelemetry.api.trace.Tracer tracer;

    CommandTracing(io.opentelemetry.api.trace.Tracer tracer) {
      this.tracer = tracer;
    }

    @Override
    public TracerProvider getTracerProvider() {
      return this;
    }

    @Override
    public Tracer getTracer() {
      return this;
    }

    @Override
    public TraceContextProvider initialTraceContextProvider() {
      return this;
    }

    @Override
    public TraceContext getTraceContext() {
      return new Caller(Context.current());
    }

    @Override
    public boolean isEnabled() {
      return true;
    }

    @Override
    public boolean includeCommandArgsInSpanTags() {
      return false;
    }

    @Override
    public Endpoint createEndpoint(SocketAddress address) {
      return address instanceof InetSocketAddress inet ? new Server(inet) : new Unknown();
    }

    @Override
    public Span nextSpan() {
      return new CommandSpan(tracer, Context.current());
    }

    @Override
    public Span nextSpan(TraceContext parent) {
      return new CommandSpan(
          tracer, parent instanceof Caller caller ? caller.context : Context.root());
    }
  }

  private static final class CommandSpan extends Tracer.Span {
    private final io.opentelemetry.api.trace.Tracer tracer;
    private final Context parent;
    private String name = "redis";
    private @Nullable InetSocketAddress server;
    private io.opentelemetry.api.trace.Span span = io.opentelemetry.api.trace.Span.getInvalid();

    CommandSpan(io.opentelemetry.api.trace.Tracer tracer, Context parent) {
      this.tracer = tracer;
      this.parent = parent;
    }

    @Override
    public Tracer.Span name(String command) {
      name = command;
      return this;
    }

    @Override
    public Tracer.Span remoteEndpoint(Tracing.Endpoint endpoint) {
      server = endpoint instanceof Server known ? known.address : null;
      return this;
    }

    @Override
    public Tracer.Span start(RedisCommand<?, ?, ?> command) {
      SpanBuilder builder = tracer
          .spanBuilder(name)
          .setParent(parent)
          .setSpanKind(SpanKind.CLIENT)
          .setAttribute(SYSTEM, "redis")
          .setAttribute(OPERATION, name);
      if (server != null) {
        builder.setAttribute(SERVER, server.getHostString()).setAttribute(PORT, (long)
            server.getPort());
      }
      span = builder.startSpan();
      if (command instanceof CompleteableCommand<?> completeable) {
        completeable.onComplete((result, failure) -> {
          if (command.getOutput() != null && command.getOutput().hasError()) {
            failed(errorCode(command.getOutput().getError()));
          } else if (failure != null) {
            failed(failure.getClass().getName());
          }
          span.end();
        });
      } else {
        span.end();
      }
      return this;
    }

    /** The first word of an error of Redis, such as WRONGTYPE. */
    private static String errorCode(String error) {
      int end = error.indexOf(' ');
      return end < 0 ? "ERR" : error.substring(0, end);
    }

    private void failed(String type) {
      span.setStatus(StatusCode.ERROR).setAttribute(ERROR_TYPE, type);
    }

    @Override
    public Tracer.Span annotate(String event) {
      return this;
    }

    @Override
    public Tracer.Span tag(String key, String value) {
      return this;
    }

    @Override
    public Tracer.Span error(Throwable failure) {
      failed(failure.getClass().getName());
      return this;
    }

    @Override
    public void finish() {
      span.end();
    }
  }
}
