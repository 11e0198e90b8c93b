package dev.evalops.runtime.health;

/**
 * Asks one dependency whether it works. Returning is healthy, throwing anything (also an {@link Error}) is
 * unhealthy.
 *
 * <p>A check runs on a thread of its own and at most once at a time in one {@link HealthChecker}, which
 * interrupts it at its timeout. It needs no timeout of its own as long as it obeys the interrupt.
 */
@FunctionalInterface
public interface HealthCheck {
  /**
   * Checks once.
   *
   * @throws UnhealthyException with a text that the report may show
   * @throws java.util.concurrent.TimeoutException shown as {@code timed out}
   * @throws Exception any other failure: shown as {@code check failed}, with the detail in the log only, since a
   *     driver's text can hold hosts and users
   */
  void check() throws Exception;
}
