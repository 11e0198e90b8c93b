package dev.evalops.runtime.events;

/**
 * What a service does with an event. Called by several threads at the same time; within a process, events of one
 * aggregate come one after the other, if they have an {@link Event#aggregateId()}, which those of peers in Go lack.
 */
@FunctionalInterface
public interface EventHandler {
  /**
   * Handles one event. It is acknowledged when this returns, and delivered again when this throws.
   *
   * @param event the event; may come more than once
   * @throws Exception if it is not handled
   */
  void handle(Event event) throws Exception;

  /**
   * Returns what a consumer calls: this handler, unless it has to know the consumer's name, as that of an inbox has. A
   * consumer of {@code runtime-natsbus} calls it once, at its start, with the name of its durable. For another broker,
   * or in a handler of your own that calls this one, call it yourself.
   *
   * @param consumer the name
   * @return the handler
   */
  default EventHandler forConsumer(String consumer) {
    return this;
  }
}
