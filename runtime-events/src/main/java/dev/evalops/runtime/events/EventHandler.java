package dev.evalops.runtime.events;

/** What a service does with an event. */
@FunctionalInterface
public interface EventHandler {
  /**
   * Handles one event. Returning acknowledges it; what this throws has it delivered again.
   *
   * @param event the event; may come more than once
   * @throws Exception if it is not handled
   */
  void handle(Event event) throws Exception;
}
