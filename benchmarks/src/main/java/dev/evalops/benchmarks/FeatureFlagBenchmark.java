package dev.evalops.benchmarks;

import dev.evalops.runtime.featureflags.FeatureFlags;
import dev.openfeature.sdk.Client;
import dev.openfeature.sdk.EvaluationContext;
import dev.openfeature.sdk.ImmutableContext;
import dev.openfeature.sdk.OpenFeatureAPI;
import dev.openfeature.sdk.providers.memory.Flag;
import dev.openfeature.sdk.providers.memory.InMemoryProvider;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.StringJoiner;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** A look-up among 100 flags, beside OpenFeature's in-memory provider, bare and behind its client. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class FeatureFlagBenchmark {
  private static final String KEY = "notes.search.v42";
  private static final String PARTIAL = "notes.rollout.v42";
  private static final String SUBJECT = "org-0001";

  private final EvaluationContext subject = new ImmutableContext(SUBJECT);
  private FeatureFlags flags;
  private InMemoryProvider provider;
  private Client client;

  /** Opens the flags, and the peer with the same ones. */
  @Setup
  public void open() throws Exception {
    StringJoiner json = new StringJoiner(",", "{\"flags\":[", "]}");
    Map<String, Flag<?>> peers = new HashMap<>();
    for (int i = 0; i < 50; i++) {
      json.add("{\"key\":\"notes.search.v" + i + "\",\"enabled\":true}");
      json.add("{\"key\":\"notes.rollout.v" + i + "\",\"enabled\":true,\"rolloutPercent\":50}");
      peers.put(
          "notes.search.v" + i,
          Flag.<Boolean>builder()
              .variant("on", true)
              .variant("off", false)
              .defaultVariant("on")
              .build());
    }
    Path file = Files.createTempFile("flags", ".json");
    Files.writeString(file, json.toString());
    flags = FeatureFlags.open(file);
    provider = new InMemoryProvider(peers);
    OpenFeatureAPI.getInstance().setProviderAndWait(provider);
    client = OpenFeatureAPI.getInstance().getClient();
    Files.delete(file);
  }

  /** Ends the threads. */
  @TearDown
  public void close() throws IOException {
    flags.close();
    OpenFeatureAPI.getInstance().shutdown();
  }

  @Benchmark
  public boolean enabled() {
    return flags.enabled(KEY);
  }

  @Benchmark
  public boolean enabledFor() {
    return flags.enabledFor(PARTIAL, SUBJECT);
  }

  @Benchmark
  public boolean openFeatureInMemoryProvider() {
    return provider.getBooleanEvaluation(KEY, false, subject).getValue();
  }

  @Benchmark
  public boolean openFeatureClient() {
    return client.getBooleanValue(KEY, false, subject);
  }
}
