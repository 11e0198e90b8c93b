package dev.evalops.runtime.featureflags;

import static java.nio.charset.StandardCharsets.UTF_16;
import static java.nio.charset.StandardCharsets.UTF_16LE;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatNullPointerException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.management.ThreadMXBean;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.NullSource;
import org.junit.jupiter.params.provider.ValueSource;

class FeatureFlagsTest {
  @TempDir
  Path folder;

  private FeatureFlags flags(String... flags) throws IOException {
    return of("{\"schemaVersion\":1,\"flags\":[" + String.join(",", flags) + "]}");
  }

  private FeatureFlags of(String json) throws IOException {
    Path file = Files.writeString(folder.resolve("flags.json"), json);
    return FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open();
  }

  @Test
  void tellsWhetherAFlagIsOn() throws Exception {
    try (FeatureFlags flags =
        flags("{\"key\":\"on\",\"enabled\":true}", "{\"key\":\"off\",\"enabled\":false}")) {
      assertThat(flags.enabled("on")).isTrue();
      assertThat(flags.enabled(" on\u00a0")).isTrue();
      assertThat(flags.enabled("off")).isFalse();
      assertThat(flags.enabled("none")).isFalse();
      assertThat(flags.enabledFor("on", "org-1")).isTrue();
      assertThat(flags.enabledFor("on", "")).isTrue();
      assertThat(flags.enabledFor("off", "org-1")).isFalse();
      assertThat(flags.enabledFor("none", "org-1")).isFalse();
    }
  }

  @Test
  void reachesAboutAsManyAsThePercentageSays_butNoBlankSubject() throws Exception {
    try (FeatureFlags flags = flags("{\"key\":\"some\",\"enabled\":true,\"rolloutPercent\":1}")) {
      assertThat(IntStream.range(0, 1000).filter(i -> flags.enabledFor("some", "org-" + i)))
          .hasSizeBetween(1, 30);
      assertThat(flags.enabledFor("some", " \u3000")).isFalse();
      assertThat(flags.enabled("some")).isTrue();
    }
  }

  @ParameterizedTest
  @CsvSource({
    "'', 100, false",
    "'\"rollout_percent\":0,', 100, false",
    "'\"rollout_percent\":null,', 100, false",
    "'\"rolloutPercent\":25,', 25, true",
    "'\"rollout_percent\":\"25\",', 25, true",
    "'\"rollout_percent\":2.5e1,', 25, true",
    "'\"rollout_percent\":\"1e1\",', 10, true",
    "'\"rollout_percent\":250e-1,', 25, true",
    "'\"rollout_percent\":25.0000000000000000000000000000000000000,', 25, true",
    "'\"rollout_percent\":-0,', 100, false",
    "'\"rollout_percent\":100,', 100, true",
    "'\"rollout_percent\":150,', 100, true",
    "'\"rollout_percent\":4294967295,', 100, true",
  })
  void readsThePercentage(String field, int percent, boolean explicit) throws Exception {
    try (FeatureFlags flags = flags("{" + field + "\"key\":\"f\"}")) {
      assertThat(flags.lookup("f").orElseThrow().rolloutPercent()).isEqualTo(percent);
      assertThat(flags.hasExplicitRollout("f")).isEqualTo(explicit);
    }
  }

  @Test
  void ignoresWhatItDoesNotKnow_andReadsBothSpellings() throws Exception {
    try (FeatureFlags flags = of("""
        {"new": {"deep": [1, {"x": null}]}, "schema_version": "7", "flags": [
          {"key": " a.b ", "enabled": true, "rollout_percent": 30, "owners": ["x", "y"], "description": "d",
           "segments": [{"key": "other"}]}]}
        """)) {
      Flag expected = new Flag("a.b", true, 30, true, List.of("x", "y"), "d");
      assertThat(flags.snapshot()).isEqualTo(Map.of("a.b", expected));
      assertThat(flags.lookup("a.b")).contains(expected);
      assertThat(flags.lookup("other")).isEmpty();
    }
  }

  @Test
  void aSnapshotIsACopy() throws Exception {
    try (FeatureFlags flags = flags("{\"key\":\"a\"}")) {
      Map<String, Flag> snapshot = flags.snapshot();
      Files.writeString(folder.resolve("flags.json"), "{\"flags\":[]}");
      flags.reload();
      assertThat(snapshot).containsOnlyKeys("a");
      assertThat(flags.snapshot()).isEmpty();
      assertThatThrownBy(snapshot::clear).isInstanceOf(UnsupportedOperationException.class);
    }
  }

  @Test
  void theLastOfTwoWithOneKeyCounts_andOneWithoutKeyIsLeftOut() throws Exception {
    try (FeatureFlags flags = flags(
        "{\"key\":\"a\",\"enabled\":true}",
        "{\"key\":\" a\",\"enabled\":false}",
        "{\"key\":\" \",\"enabled\":true}",
        "{\"enabled\":true}")) {
      assertThat(flags.snapshot()).containsOnlyKeys("a");
      assertThat(flags.enabled("a")).isFalse();
    }
  }

  @ParameterizedTest
  @NullSource
  @ValueSource(strings = {"", " ", "\u00a0"})
  void wantsAPath(String path) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> FeatureFlags.open(path))
        .withMessage("feature_flags_path_required");
  }

  @Test
  void wantsAFile() {
    Path nowhere = folder.resolve("nowhere.json");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> FeatureFlags.open(nowhere))
        .withMessage("stat_feature_flags: there is no file " + nowhere);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> FeatureFlags.open(folder))
        .withMessage("stat_feature_flags: " + folder + " is not a file");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> FeatureFlags.open("a\0b"))
        .withMessageStartingWith("stat_feature_flags: ");
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> FeatureFlags.builder(" ").reloadEvery(Duration.ofNanos(-1)).open())
        .withMessage(
            "feature_flags_path_required; reloadEvery must be zero or more: PT-0.000000001S");
  }

  @Test
  void tellsWhatCannotBeReachedFromWhatIsNotThere() throws Exception {
    Path loop = Files.createSymbolicLink(folder.resolve("loop"), Path.of("loop"));
    for (Path file : List.of(loop, folder.resolve("x".repeat(300)))) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> FeatureFlags.open(file))
          .withMessageStartingWith("read_feature_flags: ")
          .withMessageContaining(file.toString());
    }
    Path closed = Files.createDirectory(folder.resolve("closed"));
    Path file = Files.writeString(closed.resolve("flags.json"), "{\"flags\":[]}");
    Files.setPosixFilePermissions(closed, Set.of());
    if (Files.isReadable(file)) { // by root
      FeatureFlags.open(file).close();
    } else {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> FeatureFlags.open(file))
          .withMessage("read_feature_flags: permission denied: " + file + " or a folder above it");
    }
    Files.setPosixFilePermissions(closed, PosixFilePermissions.fromString("rwx------"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "null",
        "[]",
        "7",
        "{",
        "{\"flags\":[{\"key\":\"a\"}",
        "{\"flags\":[]} {}",
        "{\"flags\":[]} x",
        "{\"flags\":{}}",
        "{\"flags\":[7]}",
        "{\"flags\":[null]}",
        "{\"flags\":[],\"flags\":[]}",
        "{\"flags\":[{\"key\":7}]}",
        "{\"flags\":[{\"key\":\"a\",\"enabled\":\"true\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"enabled\":true,\"enabled\":false}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":1,\"rollout_percent\":2}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":-1}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":0.5}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":4294967296}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":1e1000000000}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\"\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":true}]}",
        "{\"flags\":[{\"key\":\"a\",\"owners\":\"x\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"owners\":[1]}]}",
        "{\"schemaVersion\":\"one\"}",
        "{\"schemaVersion\":{}}",
        "{\"schemaVersion\":1,\"schema_version\":1}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\"+25\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\"025\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\"25.\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\".5e2\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\"\u0662\u0665\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":\" 25\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":1e400}]}",
        "{\"flags\":[{\"key\":\"a\",\"rolloutPercent\":-0.1}]}",
        "{'flags':[]}",
        "{\"flags\":[{\"key\":\"\\ud800\"}]}",
        "{\"flags\":[{\"key\":\"a\",\"owners\":[\"\\udc00\\ud800\"]}]}",
        "{\"flags\":[],\"unknown\":[{\"x\":\"\\ud83d\"}]}",
        "{\"flags\":[],}",
      })
  void refusesWhatIsNoSnapshot(String json) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> of(json))
        .withMessageStartingWith("unmarshal_feature_flags: ");
  }

  @ParameterizedTest
  @ValueSource(strings = {"e9", "c080", "c0af", "eda080", "f4908080", "f888808080", "ff"})
  void refusesWhatIsNotUtf8_alsoWhereItIsNotLookedAt(String octets) throws Exception {
    byte[] bad = HexFormat.of().parseHex(octets);
    for (String json : List.of("{'flags':[{'key':'a*'}]}", "{'new':'*','flags':[]}")) {
      String[] parts = json.replace('\'', '"').split("[*]", -1);
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      bytes.write(parts[0].getBytes(UTF_8));
      bytes.write(bad);
      bytes.write(parts[1].getBytes(UTF_8));
      Path file = Files.write(folder.resolve("flags.json"), bytes.toByteArray());
      assertThatIllegalArgumentException()
          .isThrownBy(() -> FeatureFlags.open(file))
          .withMessage("unmarshal_feature_flags: the file is not UTF-8");
    }
  }

  @Test
  void guessesAtNoOtherEncoding_andTakesAMarkAtTheBeginning() throws Exception {
    Path file = folder.resolve("flags.json");
    String json = "{\"flags\":[{\"key\":\"\u00e9\",\"enabled\":true}]}";
    for (Charset other : List.of(UTF_16, UTF_16LE, Charset.forName("UTF-32BE"))) {
      Files.write(file, json.getBytes(other));
      assertThatIllegalArgumentException()
          .as("%s", other)
          .isThrownBy(() -> FeatureFlags.open(file))
          .withMessageStartingWith("unmarshal_feature_flags: ");
    }
    Files.writeString(file, "\ufeff" + json);
    try (FeatureFlags flags =
        FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open()) {
      assertThat(flags.enabled("\u00e9")).isTrue();
    }
  }

  @Test
  void refusesWhatIsNestedWithoutEnd() throws Exception {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> of("{\"x\":" + "[".repeat(100_000)))
        .withMessageStartingWith("unmarshal_feature_flags: ");
  }

  @ParameterizedTest
  @ValueSource(strings = {"{}", "{\"schemaVersion\":null,\"flags\":null}"})
  void nullIsTheDefault(String json) throws Exception {
    try (FeatureFlags flags = of(json)) {
      assertThat(flags.snapshot()).isEmpty();
    }
    try (FeatureFlags flags = flags(
        "{\"key\":\"a\",\"enabled\":null,\"rollout_percent\":null,\"owners\":null,\"description\":null}",
        "{\"key\":null,\"enabled\":true}")) {
      assertThat(flags.snapshot())
          .isEqualTo(Map.of("a", new Flag("a", false, 100, false, List.of(), "")));
    }
  }

  @Test
  void aLookUpAllocatesNothing() throws Exception {
    try (FeatureFlags flags = flags(
        "{\"key\":\"some\",\"enabled\":true,\"rollout_percent\":50}",
        "{\"key\":\"on\",\"enabled\":true}")) {
      ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
      long least = Long.MAX_VALUE;
      int answers = 0;
      // Once is enough: what runs for the first time loads classes.
      for (int round = 0; round < 20; round++) {
        long before = threads.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < 1000; i++) {
          answers += flags.enabledFor("some", "org-\u00fc\ud83d\ude00-1") ? 1 : 0;
          answers += flags.enabledFor("on", "org-1") ? 1 : 0;
          answers += flags.enabled("none") ? 1 : 0;
        }
        least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
      }
      assertThat(answers).isPositive();
      assertThat(least).isZero();
    }
  }

  @Test
  void namesTheArgumentThatIsNull() throws Exception {
    try (FeatureFlags flags = flags("{\"key\":\"on\",\"enabled\":true}")) {
      assertThatNullPointerException()
          .isThrownBy(() -> flags.enabledFor("on", null))
          .withMessage("subject");
      assertThatNullPointerException().isThrownBy(() -> flags.enabled(null)).withMessage("key");
    }
  }

  @Test
  void hasAGaugeOfItsAge() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Path file = Files.writeString(folder.resolve("flags.json"), "{\"flags\":[]}");
    try (FeatureFlags flags = FeatureFlags.builder(file).metrics(registry).open()) {
      double age = registry.get("feature.flags.age").gauge().value();
      assertThat(age).isBetween(0.0, flags.age().toNanos() / 1e9);
    }
  }

  @Test
  void closingTwiceLeavesTheGaugeOfTheNextFlags() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Path file = Files.writeString(folder.resolve("flags.json"), "{\"flags\":[]}");
    FeatureFlags first = FeatureFlags.builder(file).metrics(registry).open();
    first.close();
    try (FeatureFlags second = FeatureFlags.builder(file).metrics(registry).open()) {
      first.close();
      assertThat(registry.get("feature.flags.age").gauges()).hasSize(1);
    }
  }

  @Test
  void worksWithoutMicrometerAndOpenFeature() throws Exception {
    Path file = Files.writeString(
        folder.resolve("flags.json"), "{\"flags\":[{\"key\":\"a\",\"enabled\":true}]}");
    URL[] classPath = Stream.of(System.getProperty("java.class.path").split(":"))
        .filter(entry -> !entry.contains("micrometer") && !entry.contains("openfeature"))
        .map(FeatureFlagsTest::url)
        .toArray(URL[]::new);
    assertThat(Arrays.asList(classPath)).isNotEmpty();
    try (URLClassLoader loader =
        new URLClassLoader(classPath, ClassLoader.getPlatformClassLoader())) {
      Class<?> type = loader.loadClass(FeatureFlags.class.getName());
      try (AutoCloseable flags =
          (AutoCloseable) type.getMethod("open", Path.class).invoke(null, file)) {
        assertThat(type.getMethod("enabled", String.class).invoke(flags, "a")).isEqualTo(true);
      }
    }
  }

  private static URL url(String entry) {
    try {
      return Path.of(entry).toUri().toURL();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }
}
