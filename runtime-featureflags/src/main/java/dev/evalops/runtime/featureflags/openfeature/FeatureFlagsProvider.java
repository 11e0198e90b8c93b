package dev.evalops.runtime.featureflags.openfeature;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.featureflags.FeatureFlags;
import dev.evalops.runtime.featureflags.FeatureFlags.Reload;
import dev.evalops.runtime.featureflags.Flag;
import dev.openfeature.sdk.ErrorCode;
import dev.openfeature.sdk.EvaluationContext;
import dev.openfeature.sdk.EventProvider;
import dev.openfeature.sdk.Metadata;
import dev.openfeature.sdk.ProviderEvaluation;
import dev.openfeature.sdk.ProviderEventDetails;
import dev.openfeature.sdk.Reason;
import dev.openfeature.sdk.Value;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Feature flags as an OpenFeature provider. The targeting key is the subject of a rollout.
 *
 * <pre>{@code
 * OpenFeatureAPI.getInstance().setProviderAndWait(FeatureFlagsProvider.of(flags));
 * }</pre>
 *
 * <p>Flags are boolean: a flag that is off is {@code false} ({@code DISABLED}), one without a partial rollout {@code
 * true} ({@code STATIC}), else it depends on the targeting key ({@code SPLIT}), which must be there. A flag that is not
 * there, and any other type, is an error, for which OpenFeature gives the caller's default. Changes of the file are
 * told as {@code PROVIDER_CONFIGURATION_CHANGED}, one that cannot be used as {@code PROVIDER_STALE}.
 *
 * <p>An instance is for one registration. Thread-safe. The flags stay open when the provider is shut down.
 */
public final class FeatureFlagsProvider extends EventProvider {
  /** As the flags judge a subject; {@link String#isBlank} takes no-break spaces for a key. */
  private static final Pattern BLANK = Pattern.compile("\\p{IsWhite_Space}*");

  private final FeatureFlags flags;
  private CompletableFuture<@Nullable Void> told = CompletableFuture.completedFuture(null);
  private boolean stale;
  private volatile boolean stopped;

  /**
   * Returns a provider.
   *
   * @param flags where the values come from; stays the caller's, who closes it
   * @return the provider
   */
  public static FeatureFlagsProvider of(FeatureFlags flags) {
    return new FeatureFlagsProvider(flags);
  }

  private FeatureFlagsProvider(FeatureFlags flags) {
    this.flags = requireNonNull(flags, "flags");
  }

  @Override
  public void initialize(EvaluationContext context) {
    flags.onReload(this::tell);
  }

  @Override
  public void shutdown() {
    stopped = true;
    super.shutdown();
  }

  /**
   * On a thread of its own, one event after the other: OpenFeature emits on many threads, so that the last might be
   * overtaken, and hands on nothing while a provider starts.
   */
  private void tell(Reload reload) {
    told = told.handleAsync(
        (done, failure) -> {
          emit(reload);
          return null;
        },
        task -> Thread.ofPlatform().daemon().name("feature-flags-openfeature").start(task));
  }

  private void emit(Reload reload) {
    if (stopped) {
      return;
    }
    if (reload.problem().isPresent()) {
      stale = true;
      emitProviderStale(
              ProviderEventDetails.builder().message(reload.problem().get()).build())
          .await();
      return;
    }
    if (stale) {
      stale = false;
      emitProviderReady(ProviderEventDetails.builder().build()).await();
    }
    if (!reload.keys().isEmpty()) {
      emitProviderConfigurationChanged(
              ProviderEventDetails.builder().flagsChanged(reload.keys()).build())
          .await();
    }
  }

  @Override
  public Metadata getMetadata() {
    return () -> "evalops-feature-flags";
  }

  @Override
  public ProviderEvaluation<Boolean> getBooleanEvaluation(
      String key, Boolean defaultValue, @Nullable EvaluationContext context) {
    Optional<Flag> found = flags.lookup(key);
    if (found.isEmpty()) {
      return failed(defaultValue, ErrorCode.FLAG_NOT_FOUND, "there is no flag " + key);
    }
    Flag flag = found.get();
    if (!flag.enabled()) {
      return evaluated(false, Reason.DISABLED);
    }
    if (flag.rolloutPercent() == 100) {
      return evaluated(true, Reason.STATIC);
    }
    String subject = context == null ? null : context.getTargetingKey();
    if (subject == null || BLANK.matcher(subject).matches()) {
      return failed(
          defaultValue,
          ErrorCode.TARGETING_KEY_MISSING,
          "flag " + key + " has a partial rollout, which needs a targeting key");
    }
    return evaluated(flags.enabledFor(key, subject), Reason.SPLIT);
  }

  @Override
  public ProviderEvaluation<String> getStringEvaluation(
      String key, String defaultValue, EvaluationContext context) {
    return noBoolean(key, defaultValue);
  }

  @Override
  public ProviderEvaluation<Integer> getIntegerEvaluation(
      String key, Integer defaultValue, EvaluationContext context) {
    return noBoolean(key, defaultValue);
  }

  @Override
  public ProviderEvaluation<Double> getDoubleEvaluation(
      String key, Double defaultValue, EvaluationContext context) {
    return noBoolean(key, defaultValue);
  }

  @Override
  public ProviderEvaluation<Long> getLongEvaluation(
      String key, Long defaultValue, EvaluationContext context) {
    return noBoolean(key, defaultValue);
  }

  @Override
  public ProviderEvaluation<Value> getObjectEvaluation(
      String key, Value defaultValue, EvaluationContext context) {
    return noBoolean(key, defaultValue);
  }

  private <T> ProviderEvaluation<T> noBoolean(String key, T defaultValue) {
    return flags.lookup(key).isEmpty()
        ? failed(defaultValue, ErrorCode.FLAG_NOT_FOUND, "there is no flag " + key)
        : failed(defaultValue, ErrorCode.TYPE_MISMATCH, "flag " + key + " is boolean");
  }

  private static ProviderEvaluation<Boolean> evaluated(boolean value, Reason reason) {
    return ProviderEvaluation.<Boolean>builder()
        .value(value)
        .variant(value ? "on" : "off")
        .reason(reason.name())
        .build();
  }

  private static <T> ProviderEvaluation<T> failed(T value, ErrorCode code, String message) {
    return ProviderEvaluation.<T>builder()
        .value(value)
        .reason(Reason.ERROR.name())
        .errorCode(code)
        .errorMessage(message)
        .build();
  }
}
