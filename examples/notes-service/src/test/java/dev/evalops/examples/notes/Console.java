package dev.evalops.examples.notes;

import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Prints the demo for a person: aligned, in colour and with a moving progress line on a terminal only. */
final class Console {
  private static final String[] SPINNER = {"|", "/", "-", "\\"};

  private final boolean terminal;

  Console(boolean terminal) {
    this.terminal = terminal;
  }

  void title(String text) {
    System.out.println();
    System.out.println(paint("1", text));
  }

  /** A step that went well: what was done, what came back, and, below, a detail that is worth seeing. */
  synchronized void done(String what, String result, String detail) {
    System.out.printf("  %s %-44s %s%n", paint("32", "ok"), what, paint("1", result));
    if (!detail.isEmpty()) {
      System.out.println("     " + paint("2", detail));
    }
  }

  synchronized void failed(String what, String why) {
    System.out.printf("  %s %s%n", paint("31", "FAILED"), what);
    System.out.println("     " + why.replace("\n", "\n     "));
  }

  /** A line of the service's own log. */
  synchronized void service(String line) {
    System.out.println("     " + paint("2", "service | " + line));
  }

  void plain(String text) {
    System.out.println(text);
  }

  /** Runs something slow under a progress line. */
  <T> T working(String what, Callable<T> work) throws Exception {
    long start = System.nanoTime();
    if (!terminal) {
      System.out.println("  .. " + what);
    }
    T result;
    try (ScheduledExecutorService spinner = Executors.newSingleThreadScheduledExecutor()) {
      AtomicInteger turn = new AtomicInteger();
      if (terminal) {
        Future<?> ignored = spinner.scheduleAtFixedRate(
            () -> spin(what, turn.getAndIncrement()), 0, 100, TimeUnit.MILLISECONDS);
      }
      result = work.call();
      spinner.shutdownNow();
    }
    if (terminal) {
      System.out.print("\r\033[K");
    }
    done(what, seconds(Duration.ofNanos(System.nanoTime() - start)), "");
    return result;
  }

  static String seconds(Duration duration) {
    return String.format(Locale.ROOT, "%.1f s", duration.toMillis() / 1000.0);
  }

  private static void spin(String what, int turn) {
    System.out.print("\r  " + SPINNER[turn % SPINNER.length] + "  " + what);
    System.out.flush();
  }

  private String paint(String code, String text) {
    return terminal ? "\033[" + code + "m" + text + "\033[0m" : text;
  }
}
