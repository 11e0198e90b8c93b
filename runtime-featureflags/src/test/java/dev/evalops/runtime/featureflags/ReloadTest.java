package dev.evalops.runtime.featureflags;

import static java.nio.file.StandardCopyOption.ATOMIC_MOVE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.evalops.runtime.featureflags.FeatureFlags.Reload;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.IntPredicate;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

/** The file is changed as tools and people do; a real thread reads it. */
class ReloadTest {
  private static final Duration SOON = Duration.ofSeconds(20);

  @TempDir
  Path folder;

  private final ListAppender<ILoggingEvent> log = new ListAppender<>();
  private final Logger logger = (Logger) LoggerFactory.getLogger(FeatureFlags.class);
  private final List<Reload> reloads = new CopyOnWriteArrayList<>();
  private Path file;
  private FeatureFlags flags;

  @BeforeEach
  void open() throws IOException {
    log.list = new CopyOnWriteArrayList<>();
    log.start();
    logger.addAppender(log);
    file = folder.resolve("flags.json");
    Files.writeString(file, json("kill", true));
    openFile(file);
  }

  private void openFile(Path path) {
    flags = FeatureFlags.builder(path).reloadEvery(Duration.ofMillis(5)).open();
    flags.onReload(reloads::add);
  }

  @AfterEach
  void close() {
    flags.close();
    logger.detachAppender(log);
  }

  private static String json(String key, boolean enabled) {
    return "{\"flags\":[{\"key\":\"" + key + "\",\"enabled\":" + (enabled ? "true " : "false")
        + "}]}";
  }

  private List<String> warnings() {
    return log.list.stream()
        .filter(event -> event.getLevel() == Level.WARN)
        .map(event -> event.getFormattedMessage()
            + event.getKeyValuePairs().stream()
                .filter(pair -> pair.key.equals("error"))
                .map(pair -> " " + pair.value)
                .findAny()
                .orElse(""))
        .toList();
  }

  private void awaitOff() {
    await().atMost(SOON).until(() -> !flags.enabled("kill"));
  }

  @Test
  void seesAnAtomicRename() throws Exception {
    Path next = Files.writeString(folder.resolve("next"), json("kill", false));
    Files.move(next, file, ATOMIC_MOVE);
    awaitOff();
  }

  @Test
  void seesTheSwapOfAConfigMap() throws Exception {
    Path first = Files.createDirectory(folder.resolve("..2026_01"));
    Path second = Files.createDirectory(folder.resolve("..2026_02"));
    Files.writeString(first.resolve("f.json"), json("kill", true));
    Files.writeString(second.resolve("f.json"), json("kill", false));
    FileTime same = Files.getLastModifiedTime(first.resolve("f.json"));
    Files.setLastModifiedTime(second.resolve("f.json"), same);
    Path data = Files.createSymbolicLink(folder.resolve("..data"), first.getFileName());
    Path link =
        Files.createSymbolicLink(folder.resolve("f.json"), data.getFileName().resolve("f.json"));
    flags.close();
    openFile(link);
    assertThat(flags.enabled("kill")).isTrue();

    Path next = Files.createSymbolicLink(folder.resolve("..data_tmp"), second.getFileName());
    Files.move(next, data, ATOMIC_MOVE);
    awaitOff();
  }

  @Test
  void seesAnEditInPlace_ofTheSameSizeAndTime() throws Exception {
    FileTime time = Files.getLastModifiedTime(file);
    long size = Files.size(file);
    Files.writeString(file, json("kill", false));
    Files.setLastModifiedTime(file, time);
    assertThat(Files.size(file)).isEqualTo(size);
    awaitOff();
  }

  @Test
  void seesAnOlderFilePutBack() throws Exception {
    Path old = Files.writeString(folder.resolve("old"), json("kill", false));
    Files.setLastModifiedTime(old, FileTime.fromMillis(0));
    Files.move(old, file, ATOMIC_MOVE);
    awaitOff();
  }

  @Test
  void keepsTheLastGoodFlags_whileTheFileIsAway_andWarnsOnce() throws Exception {
    Path away = folder.resolve("away");
    Files.move(file, away);
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    assertThat(flags.reload()).isFalse();
    assertThat(flags.enabled("kill")).isTrue();
    assertThat(warnings())
        .containsExactly(
            "reload feature flags failed stat_feature_flags: there is no file " + file);
    assertThat(reloads)
        .singleElement()
        .satisfies(reload -> assertThat(reload.problem()).isPresent());

    Files.move(away, file);
    await().atMost(SOON).until(() -> reloads.size() == 2);
    assertThat(reloads.get(1))
        .isEqualTo(new Reload(Set.of(), Set.of(), Set.of(), Optional.empty()));
    assertThat(warnings()).hasSize(1);
  }

  @Test
  void keepsTheLastGoodFlags_whateverTheFileHolds_andWarnsOnceForEach() throws Exception {
    List<String> problems = new ArrayList<>();
    for (String bad : List.of("", "{\"flags\":[{\"key\":\"kill\",", "[]", "\0\0\0\0")) {
      int before = reloads.size();
      Files.writeString(folder.resolve("next"), bad);
      Files.move(folder.resolve("next"), file, ATOMIC_MOVE);
      await().atMost(SOON).until(() -> reloads.size() > before);
      flags.reload();
      problems.add(reloads.get(before).problem().orElseThrow());
      assertThat(flags.enabled("kill")).as(bad).isTrue();
    }
    assertThat(warnings())
        .containsExactlyElementsOf(problems.stream()
            .map(problem -> "reload feature flags failed " + problem)
            .toList());
  }

  @Test
  void doesNotReadAHugeFile() throws Exception {
    try (RandomAccessFile huge = new RandomAccessFile(folder.resolve("huge").toFile(), "rw")) {
      huge.setLength(100L << 20);
    }
    Files.move(folder.resolve("huge"), file, ATOMIC_MOVE);
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    assertThat(reloads.get(0).problem())
        .contains("read_feature_flags: " + file + " is larger than 4 MiB");
    assertThat(flags.enabled("kill")).isTrue();
  }

  @Test
  void doesNotWaitForAPipe() throws Exception {
    Files.delete(file);
    assertThat(new ProcessBuilder("mkfifo", file.toString()).start().waitFor()).isZero();
    await()
        .atMost(SOON)
        .until(() -> warnings().stream().anyMatch(w -> w.contains("is not a file")));
    assertThat(flags.enabled("kill")).isTrue();
  }

  @Test
  void tellsWhatChanged() throws Exception {
    replace("{\"flags\":[{\"key\":\"kill\"},{\"key\":\"b\"},{\"key\":\"same\"}]}");
    await().atMost(SOON).until(() -> reloads.size() == 1);
    replace("{\"flags\": [{\"key\":\"c\"},{\"key\":\"b\",\"enabled\":true},{\"key\":\"same\"}]}");
    await().atMost(SOON).until(() -> reloads.size() == 2);

    assertThat(reloads.get(0))
        .isEqualTo(new Reload(Set.of("b", "same"), Set.of(), Set.of("kill"), Optional.empty()));
    assertThat(reloads.get(1))
        .isEqualTo(new Reload(Set.of("c"), Set.of("kill"), Set.of("b"), Optional.empty()));
    assertThat(reloads.get(1).keys()).containsExactly("b", "c", "kill");
  }

  @Test
  void warnsOfWhatIsDoubtful_whenItIsRead_andOnceOnly() throws Exception {
    replace(
        "{\"flags\":[{\"key\":\"z\",\"rollout_percent\":0},{\"key\":\"o\",\"rollout_percent\":150},"
            + "{\"key\":\"n\",\"rollout_percent\":null},"
            + "{\"key\":\"d\"},{\"key\":\"d\"},{\"key\":\"\"}]}");
    await().atMost(SOON).until(() -> reloads.size() == 1);
    flags.reload();
    assertThat(warnings())
        .containsExactly(
            "feature flags: flag z has rollout_percent 0, which means 100; to turn it off, set enabled to false",
            "feature flags: flag o has rollout_percent 150, which means 100",
            "feature flags: flag d is given more than once; the last one counts",
            "feature flags: a flag without a key is left out");
  }

  @Test
  void aListenerThatFails_stopsNothing() throws Exception {
    flags.onReload(reload -> {
      throw new IllegalStateException("listener");
    });
    replace(json("kill", false));
    awaitOff();
    replace(json("kill", true));
    await().atMost(SOON).until(() -> flags.enabled("kill"));
  }

  @Test
  void answersFromWholeSnapshots_whileTheyChange() throws Exception {
    flags.close();
    IntPredicate both = i -> flags.enabled("a") == flags.enabled("b");
    String[] texts = {
      "{\"flags\":[{\"key\":\"a\",\"enabled\":true},{\"key\":\"b\",\"enabled\":true}]}",
      "{\"flags\":[{\"key\":\"a\"},{\"key\":\"b\"}]}"
    };
    replace(texts[0]);
    flags.reload();
    AtomicBoolean done = new AtomicBoolean();
    List<Integer> mixed = new CopyOnWriteArrayList<>();
    Thread reader = Thread.ofPlatform().start(() -> {
      while (!done.get()) {
        var now = flags.snapshot();
        if (now.get("a").enabled() != now.get("b").enabled()) {
          mixed.add(1);
        }
      }
    });
    for (int i = 0; i < 200; i++) {
      replace(texts[i % 2]);
      flags.reload();
      assertThat(both.test(i)).isTrue();
    }
    done.set(true);
    reader.join();
    assertThat(mixed).isEmpty();
  }

  @Test
  void readsNoMore_onceClosed() throws Exception {
    flags.close();
    flags.close();
    awaitNoThread();
    replace(json("kill", false));
    assertThat(flags.enabled("kill")).isTrue();
  }

  @Test
  void aListenerThatBlocks_holdsUpNeitherTheReading_norTheCaller() throws Exception {
    CountDownLatch called = new CountDownLatch(1);
    CountDownLatch release = new CountDownLatch(1);
    List<Reload> told = new CopyOnWriteArrayList<>();
    flags.onReload(reload -> {
      called.countDown();
      awaitUninterruptibly(release);
    });
    flags.onReload(told::add);
    replace(json("kill", false));
    awaitOff();
    called.await();

    replace(json("kill", true));
    await().atMost(SOON).until(() -> flags.enabled("kill"));
    assertThat(flags.reload()).isFalse();
    assertThat(told).isEmpty();
    release.countDown();
    await().atMost(SOON).until(() -> told.size() == 2);
  }

  @Test
  void aListenerThatInterruptsItsThread_stopsNothing() throws Exception {
    flags.onReload(reload -> Thread.currentThread().interrupt());
    replace(json("kill", false));
    awaitOff();
    await().atMost(SOON).until(() -> reloads.size() == 1);
    replace(json("kill", true));
    await().atMost(SOON).until(() -> flags.enabled("kill"));
  }

  @Test
  void aListenerMayReload_andAllAreToldInOneOrder() throws Exception {
    flags.close();
    flags = FeatureFlags.builder(file).reloadEvery(Duration.ZERO).open();
    List<Set<String>> first = new CopyOnWriteArrayList<>();
    List<Set<String>> second = new CopyOnWriteArrayList<>();
    flags.onReload(reload -> {
      first.add(reload.added());
      if (first.size() == 1) {
        replaceUnchecked(json("c", true));
        flags.reload();
      }
    });
    flags.onReload(reload -> second.add(reload.added()));
    replace(json("b", true));
    assertThat(flags.reload()).isTrue();
    assertThat(first).containsExactly(Set.of("b"), Set.of("c"));
    assertThat(second).isEqualTo(first);
  }

  @Test
  void aListenerMayCloseTheFlags() throws Exception {
    List<Reload> told = new CopyOnWriteArrayList<>();
    flags.onReload(reload -> flags.close());
    flags.onReload(told::add);
    replace(json("kill", false));
    await().atMost(SOON).until(() -> told.size() == 1);
    awaitNoThread();
  }

  @Test
  void aListenerThatComesLateIsToldOfTheProblem() throws Exception {
    replace("{");
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    List<Reload> late = new CopyOnWriteArrayList<>();
    flags.onReload(late::add);
    await().atMost(SOON).until(() -> late.size() == 1);
    assertThat(late).isEqualTo(reloads);

    replace(json("kill", true));
    await().atMost(SOON).until(() -> late.size() == 2);
    List<Reload> whenAllIsWell = new CopyOnWriteArrayList<>();
    flags.onReload(whenAllIsWell::add);
    replace(json("kill", false));
    await().atMost(SOON).until(() -> !whenAllIsWell.isEmpty());
    assertThat(whenAllIsWell)
        .containsExactly(new Reload(Set.of(), Set.of(), Set.of("kill"), Optional.empty()));
  }

  @Test
  void logsThatTheFileCanBeReadAgain() throws Exception {
    replace("{");
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    replace(json("kill", false));
    awaitOff();
    assertThat(log.list)
        .filteredOn(event -> event.getLevel() == Level.INFO)
        .singleElement()
        .satisfies(event -> assertThat(event.getFormattedMessage())
            .isEqualTo("feature flags reloaded after failure"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{}",
        "{\"schema_version\":1}",
        "{\"features\":[{\"key\":\"a\"}],\"version\":3}",
        "{\"flags\":[{\"name\":\"a\",\"on\":true},{\"name\":\"b\"}]}",
        "{\"flags\":[{\"key\":\" \"}]}"
      })
  void keepsTheLastGoodFlags_whenTheFileIsSomethingElse(String json) throws Exception {
    replace(json);
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    flags.reload();
    assertThat(flags.enabled("kill")).isTrue();
    assertThat(reloads).singleElement().satisfies(reload -> {
      assertThat(reload.problem())
          .hasValueSatisfying(problem ->
              assertThat(problem).startsWith("unmarshal_feature_flags: the file has no flags"));
      assertThat(reload.keys()).isEmpty();
    });
    assertThat(warnings()).hasSize(1);

    replace(json("kill", false));
    awaitOff();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"{\"flags\":[]}", "{\"flags\":null}", "{\"schema_version\":1,\"flags\":[]}"})
  void removesAllFlags_whenTheFileSaysThatThereAreNone(String json) throws Exception {
    replace(json);
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    assertThat(flags.snapshot()).isEmpty();
    assertThat(reloads.get(0).removed()).containsExactly("kill");
  }

  @Test
  void doesNotFloodTheLog_whateverTheFileHolds() throws Exception {
    replace("{\"flags\":[" + "{},".repeat(100_001) + "{\"key\":\"a\"}]}");
    await().atMost(SOON).until(() -> !reloads.isEmpty());
    assertThat(warnings()).hasSize(21).endsWith("feature flags: and 99981 more like these");
  }

  @Test
  void aGaugeIsThatOfTheFlagsThatAreOpen() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    FeatureFlags.builder(file)
        .metrics(registry)
        .reloadEvery(Duration.ZERO)
        .open()
        .close();
    assertThat(registry.getMeters()).isEmpty();
    try (FeatureFlags again =
        FeatureFlags.builder(file).metrics(registry).reloadEvery(Duration.ZERO).open()) {
      double age = registry.get("feature.flags.age").gauge().value();
      assertThat(age).isBetween(0.0, again.age().toNanos() / 1e9);
    }
  }

  private static void awaitNoThread() {
    await()
        .atMost(SOON)
        .until(() -> Thread.getAllStackTraces().keySet().stream()
            .noneMatch(thread -> thread.getName().startsWith("feature-flags")));
  }

  private static void awaitUninterruptibly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  private void replaceUnchecked(String json) {
    try {
      replace(json);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private void replace(String json) throws IOException {
    Path next = Files.writeString(folder.resolve("next"), json);
    Files.move(next, file, ATOMIC_MOVE);
  }
}
