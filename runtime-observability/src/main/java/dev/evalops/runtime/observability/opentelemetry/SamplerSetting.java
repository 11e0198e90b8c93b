package dev.evalops.runtime.observability.opentelemetry;

import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;

/** {@code OTEL_TRACES_SAMPLER} with its argument, also as {@code 0.1} or {@code traceidratio:0.1}. */
record SamplerSetting(String sampler, double ratio) {
  private static final String DEFAULT = "parentbased_traceidratio";
  private static final List<String> WITH_RATIO = List.of(DEFAULT, "traceidratio");
  private static final List<String> WITHOUT =
      List.of("always_on", "always_off", "parentbased_always_on", "parentbased_always_off");

  /** Not all that Java reads as one, such as {@code 1d}. */
  private static final Pattern NUMBER =
      Pattern.compile("[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?");

  /**
   * Reads the two variables; without a sampler the argument does not count, and everything is sampled.
   *
   * @throws IllegalArgumentException naming the variable
   */
  static SamplerSetting parse(String sampler, String argument) {
    String name = Text.trim(sampler).toLowerCase(Locale.ROOT).replace('-', '_');
    if (name.isEmpty()) {
      return new SamplerSetting(DEFAULT, 1);
    }
    int colon = name.indexOf(':');
    if (colon >= 0) {
      String before = Text.trim(name.substring(0, colon));
      if (WITH_RATIO.contains(before)) {
        // From the original: - has become _ in the name.
        String ratio = sampler.substring(sampler.indexOf(':') + 1);
        return new SamplerSetting(before, ratio("OTEL_TRACES_SAMPLER", ratio));
      }
    } else if (WITHOUT.contains(name)) {
      return new SamplerSetting(name, 1);
    } else if (WITH_RATIO.contains(name)) {
      return new SamplerSetting(
          name, Text.trim(argument).isEmpty() ? 1 : ratio("OTEL_TRACES_SAMPLER_ARG", argument));
    } else if (NUMBER.matcher(Text.trim(sampler)).matches()) {
      return new SamplerSetting(DEFAULT, ratio("OTEL_TRACES_SAMPLER", sampler));
    }
    throw new IllegalArgumentException("OTEL_TRACES_SAMPLER must be a ratio, one of " + WITHOUT
        + ", or one of " + WITH_RATIO + " with :ratio or OTEL_TRACES_SAMPLER_ARG");
  }

  private static double ratio(String variable, String text) {
    if (NUMBER.matcher(Text.trim(text)).matches()) {
      double ratio = Double.parseDouble(Text.trim(text));
      if (ratio >= 0 && ratio <= 1) {
        return ratio;
      }
    }
    throw new IllegalArgumentException(variable + " must have a ratio from 0 to 1");
  }
}
