package dev.evalops.runtime.observability;

import static java.util.Objects.requireNonNull;

import io.micrometer.core.instrument.Tag;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A label that takes a fixed set of values, so that what a caller sends cannot make series without end.
 *
 * <pre>{@code
 * static final BoundedLabel PROVIDER = BoundedLabel.of("provider", "stripe", "adyen");
 * registry.counter("payments", List.of(PROVIDER.tag(name))).increment();
 * }</pre>
 *
 * <p>Immutable, thread-safe.
 */
public final class BoundedLabel {
  private static final String OTHER = "other";

  private final Map<String, Tag> tags = new LinkedHashMap<>();
  private final Tag other;

  private BoundedLabel(String name, List<String> values) {
    if (name.isBlank()) {
      throw new IllegalArgumentException("name must not be blank");
    }
    other = Tag.of(name, OTHER);
    for (String value : values) {
      if (value.isBlank()) {
        throw new IllegalArgumentException("values must not be blank");
      }
      tags.put(value, Tag.of(name, value));
    }
  }

  /**
   * A label with these values.
   *
   * @param name of the label
   * @param values all values that it may have; {@code other} is always one
   * @return the label
   * @throws IllegalArgumentException if the name or a value is blank
   */
  public static BoundedLabel of(String name, String... values) {
    return new BoundedLabel(requireNonNull(name, "name"), List.of(values));
  }

  /**
   * The tag for a value.
   *
   * @param value any text, or null
   * @return the tag; its value is {@code other} if the text is none of the values
   */
  public Tag tag(@Nullable String value) {
    return value == null ? other : tags.getOrDefault(value, other);
  }
}
