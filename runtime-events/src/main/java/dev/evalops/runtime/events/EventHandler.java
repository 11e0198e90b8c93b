package dev.evalops.runtime.events;

/** What a service does with an event. */
@FunctionalInterface
public interface EventHandler {
  /**
   * Handles one event. It is acknowledged when this returns, and delivered again when this throws.
   *
   * @param event the event; may come more than once
   * @throws Exception if it is not handled
   */
  void handle(Event event) throws Exception;
}
