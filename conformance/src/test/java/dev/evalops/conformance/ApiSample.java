package dev.evalops.conformance;

import java.io.IOException;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;

/** One of everything that a record of an API has to write down. */
public abstract class ApiSample<T extends Comparable<? super T>> extends ApiRecordTest.Hidden
    implements AutoCloseable {
  public static final int LIMIT = 7;
  static final int HIDDEN = 8;

  protected ApiSample(List<? extends @Nullable T> values) {}

  public <E extends Exception> @Nullable T call(Callable<T> task, @Nullable String... names)
      throws E, IOException {
    return null;
  }

  public byte @Nullable [] bytes() {
    return null;
  }

  protected abstract void forSubclasses();

  abstract void hidden();

  @Override
  public void close() {}

  @Override
  public String toString() {
    return "sample";
  }

  /** Constants stay in their order. */
  public enum Mode {
    SLOW,
    FAST;

    public boolean isFast() {
      return this == FAST;
    }
  }

  public sealed interface Shape {
    double area();

    default String text() {
      return "";
    }
  }

  public record Pair(String name, @Nullable Integer value) implements Shape {
    @Override
    public double area() {
      return 0;
    }
  }
}
