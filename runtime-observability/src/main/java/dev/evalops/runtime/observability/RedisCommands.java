package dev.evalops.runtime.observability;

import io.lettuce.core.TransactionResult;
import io.lettuce.core.event.command.CommandBaseEvent;
import io.lettuce.core.event.command.CommandFailedEvent;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.event.command.CommandStartedEvent;
import io.lettuce.core.event.command.CommandSucceededEvent;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.protocol.RedisCommand;
import io.lettuce.core.protocol.TransactionalCommand;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.Timer;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** Counts and times commands by their name and how they went. */
final class RedisCommands implements CommandListener {
  private static final String STARTED = RedisCommands.class.getName();
  private static final Duration[] BUCKETS =
      ServiceMetrics.buckets(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1);

  private final MeterRegistry registry;
  private final String prefix;
  private final Map<Series, Command> commands = new ConcurrentHashMap<>();

  private record Series(String command, String status) {}

  private record Command(Counter count, Timer duration) {}

  private RedisCommands(MeterRegistry registry, String prefix) {
    this.registry = registry;
    this.prefix = prefix;
  }

  static CommandListener listener(MeterRegistry registry, String prefix) {
    return new RedisCommands(registry, prefix);
  }

  @Override
  public void commandStarted(CommandStartedEvent event) {
    event.getContext().put(STARTED, System.nanoTime());
  }

  @Override
  public void commandSucceeded(CommandSucceededEvent event) {
    record(event, hasAnswer(event.getCommand()) ? "ok" : "nil");
  }

  private static boolean hasAnswer(RedisCommand<?, ?, ?> command) {
    CommandOutput<?, ?, ?> output = command.getOutput();
    if (output == null || command instanceof TransactionalCommand) {
      return true; // after MULTI the answer is that it is queued; its output comes with EXEC
    }
    return output.get() instanceof TransactionResult result
        ? !result.wasDiscarded()
        : output.get() != null;
  }

  @Override
  public void commandFailed(CommandFailedEvent event) {
    record(event, "error");
  }

  private void record(CommandBaseEvent event, String status) {
    Command command = commands.computeIfAbsent(
        new Series(name(event.getCommand().getType()), status), this::register);
    command.count.increment();
    if (event.getContext().get(STARTED) instanceof Long started) {
      command.duration.record(System.nanoTime() - started, TimeUnit.NANOSECONDS);
    }
  }

  /** Only names that Lettuce knows: others come from who knows where. */
  private static String name(ProtocolKeyword keyword) {
    return keyword instanceof CommandType type ? type.name().toLowerCase(Locale.ROOT) : "unknown";
  }

  private Command register(Series series) {
    Tags tags = Tags.of("command", series.command, "status", series.status);
    return new Command(
        Counter.builder(prefix + ".redis.commands")
            .description("Redis commands that ended")
            .tags(tags)
            .register(registry),
        Timer.builder(prefix + ".redis.command.duration")
            .description("Time from the sending of a Redis command to its answer")
            .serviceLevelObjectives(BUCKETS)
            .tags(tags)
            .register(registry));
  }
}
