package dev.evalops.runtime.featureflags.openfeature;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.featureflags.FeatureFlags;
import dev.openfeature.sdk.Client;
import dev.openfeature.sdk.EvaluationContext;
import dev.openfeature.sdk.FlagEvaluationDetails;
import dev.openfeature.sdk.ImmutableContext;
import dev.openfeature.sdk.NoOpProvider;
import dev.openfeature.sdk.OpenFeatureAPI;
import dev.openfeature.sdk.ProviderState;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class FeatureFlagsProviderTest {
  private static final Duration SOON = Duration.ofSeconds(20);

  @TempDir
  Path folder;

  private Path file;
  private FeatureFlags flags;
  private Client client;

  @BeforeEach
  void open() throws Exception {
    file = Files.writeString(folder.resolve("flags.json"), """
        {"flags":[{"key":"on","enabled":true},{"key":"off"},
                  {"key":"some","enabled":true,"rollout_percent":50}]}
        """);
    flags = FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open();
    OpenFeatureAPI.getInstance().setProviderAndWait(FeatureFlagsProvider.of(flags));
    client = OpenFeatureAPI.getInstance().getClient();
  }

  @AfterEach
  void close() {
    OpenFeatureAPI.getInstance().shutdown();
    flags.close();
  }

  @ParameterizedTest
  @CsvSource({
    "on,   '',    false, true,  STATIC,   ",
    "off,  '',    true,  false, DISABLED, ",
    "none, '',    true,  true,  ERROR,    FLAG_NOT_FOUND",
    "some, '',    true,  true,  ERROR,    TARGETING_KEY_MISSING",
    "some, '  ',  false, false, ERROR,    TARGETING_KEY_MISSING",
    "some, '\u00a0\u0085\u2003', true, true, ERROR, TARGETING_KEY_MISSING",
  })
  void evaluates(
      String key, String subject, boolean otherwise, boolean value, String reason, String error) {
    FlagEvaluationDetails<Boolean> details =
        client.getBooleanDetails(key, otherwise, new ImmutableContext(subject));
    assertThat(details.getValue()).isEqualTo(value);
    assertThat(details.getReason()).isEqualTo(reason);
    assertThat(details.getErrorCode() == null ? null : details.getErrorCode().name())
        .isEqualTo(error);
  }

  @Test
  void splitsByTheTargetingKey_asTheFlagsDo() {
    for (int i = 0; i < 200; i++) {
      EvaluationContext subject = new ImmutableContext("org-" + i);
      FlagEvaluationDetails<Boolean> details = client.getBooleanDetails("some", false, subject);
      assertThat(details.getValue()).isEqualTo(flags.enabledFor("some", "org-" + i));
      assertThat(details.getReason()).isEqualTo("SPLIT");
      assertThat(details.getVariant()).isEqualTo(details.getValue() ? "on" : "off");
    }
  }

  @Test
  void givesTheDefault_forAnyOtherType() {
    assertThat(client.getStringDetails("on", "x").getErrorCode().name()).isEqualTo("TYPE_MISMATCH");
    assertThat(client.getIntegerValue("on", 7)).isEqualTo(7);
    assertThat(client.getDoubleValue("on", 0.5)).isEqualTo(0.5);
    assertThat(client.getStringDetails("none", "x").getErrorCode().name())
        .isEqualTo("FLAG_NOT_FOUND");
  }

  @Test
  void tellsOfChangesAndOfAStaleFile() throws Exception {
    List<String> changed = new CopyOnWriteArrayList<>();
    client.onProviderConfigurationChanged(details -> changed.addAll(details.getFlagsChanged()));

    Files.writeString(file, "{\"flags\":[{\"key\":\"on\"}]}");
    flags.reload();
    await().atMost(SOON).until(() -> changed.equals(List.of("off", "on", "some")));

    Files.writeString(file, "{");
    flags.reload();
    await().atMost(SOON).until(() -> client.getProviderState() == ProviderState.STALE);
    assertThat(client.getBooleanDetails("on", true).getReason()).isEqualTo("DISABLED");

    Files.writeString(file, "{\"flags\":[{\"key\":\"on\",\"enabled\":true}]}");
    flags.reload();
    await().atMost(SOON).until(() -> client.getProviderState() == ProviderState.READY);
    assertThat(client.getBooleanValue("on", false)).isTrue();
  }

  @Test
  void isReadyAgain_howeverSoonTheFileIsMended() throws Exception {
    OpenFeatureAPI api = OpenFeatureAPI.getInstance();
    String good = Files.readString(file);
    Semaphore toldOfProblem = new Semaphore(0);
    flags = FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open();
    flags.onReload(reload -> toldOfProblem.release(reload.problem().isPresent() ? 1 : 0));
    api.setProviderAndWait("watched", FeatureFlagsProvider.of(flags));
    Client watched = api.getClient("watched");
    for (int i = 0; i < 100; i++) {
      SlowProvider slow = new SlowProvider(); // while it starts, OpenFeature hands on no event
      Thread starting = Thread.ofPlatform().start(() -> api.setProviderAndWait("slow", slow));
      slow.initializing.await();
      Files.writeString(file, "{");
      Thread reloading = Thread.ofPlatform().start(flags::reload);
      toldOfProblem.acquire();
      Files.writeString(file, good);
      flags.reload();
      slow.go.countDown();
      starting.join();
      reloading.join();
      await()
          .atMost(SOON)
          .pollDelay(Duration.ofMillis(1))
          .pollInterval(Duration.ofMillis(1))
          .until(() -> watched.getProviderState() == ProviderState.READY);
    }
  }

  private static final class SlowProvider extends NoOpProvider {
    final CountDownLatch initializing = new CountDownLatch(1);
    final CountDownLatch go = new CountDownLatch(1);

    @Override
    public void initialize(EvaluationContext context) throws InterruptedException {
      initializing.countDown();
      go.await();
    }
  }

  @Test
  @Timeout(60)
  void aProviderMayReloadTheFlagsWhileItStarts() throws Exception {
    OpenFeatureAPI api = OpenFeatureAPI.getInstance();
    flags = FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open();
    api.setProviderAndWait("watched", FeatureFlagsProvider.of(flags));
    Files.writeString(file, "{");
    api.setProviderAndWait("reloading", new NoOpProvider() {
      @Override
      public void initialize(EvaluationContext context) {
        flags.reload();
      }
    });
    Client watched = api.getClient("watched");
    await().atMost(SOON).until(() -> watched.getProviderState() == ProviderState.STALE);
  }

  @Test
  void isStale_whenTheFileCouldNotBeUsedBeforeItWasRegistered() throws Exception {
    String good = Files.readString(file);
    Files.writeString(file, "{");
    flags.reload();
    OpenFeatureAPI.getInstance().setProviderAndWait("late", FeatureFlagsProvider.of(flags));
    Client late = OpenFeatureAPI.getInstance().getClient("late");
    await().atMost(SOON).until(() -> late.getProviderState() == ProviderState.STALE);
    assertThat(late.getBooleanValue("on", false)).isTrue();

    Files.writeString(file, good);
    flags.reload();
    await().atMost(SOON).until(() -> late.getProviderState() == ProviderState.READY);
  }

  @Test
  void twoProvidersOfTheSameFlagsAreToldEach_untilOneIsShutDown() throws Exception {
    OpenFeatureAPI.getInstance().setProviderAndWait("second", FeatureFlagsProvider.of(flags));
    Client second = OpenFeatureAPI.getInstance().getClient("second");
    List<String> told = new CopyOnWriteArrayList<>();
    client.onProviderConfigurationChanged(details -> told.add("first"));
    second.onProviderConfigurationChanged(details -> told.add("second"));
    Files.writeString(file, "{\"flags\":[]}");
    flags.reload();
    await().atMost(SOON).until(() -> told.containsAll(List.of("first", "second")));
    assertThat(told).hasSize(2);

    OpenFeatureAPI.getInstance().setProviderAndWait("second", FeatureFlagsProvider.of(flags));
    Files.writeString(file, "{\"flags\":[{\"key\":\"on\",\"enabled\":true}]}");
    flags.reload();
    await().atMost(SOON).until(() -> told.size() == 4);
    assertThat(second.getBooleanValue("on", false)).isTrue();
  }
}
