package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.natsbus.SubjectsTest;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class SpoolDirectoryTest {
  private static final Instant NOW = Instant.parse("2026-04-15T12:00:00.000000001Z");

  @TempDir
  Path temp;

  static Stream<JsonNode> vectors() throws Exception {
    return SubjectsTest.cases("/dead_letter_file_name.json");
  }

  private static EncodedEvent message(String key) {
    return new EncodedEvent(
        "e-1",
        "notes.changes.note.create",
        Map.of("a", List.of("1", "2"), "ce-partitionkey", List.of(key)),
        "<body>".getBytes(StandardCharsets.UTF_8),
        "note/" + key);
  }

  private static SpoolDirectory open(Path directory) throws Exception {
    return SpoolDirectory.open(directory, 100, () -> NOW);
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void namesFilesAsPeersDo(JsonNode vector) {
    JsonNode input = vector.get("input");
    Instant time = OffsetDateTime.parse(input.get("created_at").asString())
        .toInstant()
        .plusNanos(input.get("nanos").asLong());

    assertThat(SpooledEvent.fileName(time, input.get("id").asString()))
        .isEqualTo(vector.get("expected").asString());
  }

  @Test
  void writesTheFieldsOfPeers_andReadsThemBack() {
    SpooledEvent letter = SpooledEvent.of(message("n 1"), NOW, "no \"answer\"");
    String json = new String(letter.toJson(), StandardCharsets.UTF_8);

    assertThat(json)
        .isEqualTo(
            "{\"id\":\"" + letter.id() + "\",\"created_at\":"
                + "\"2026-04-15T12:00:00.000000001Z\",\"subject\":\"notes.changes.note.create\","
                + "\"header\":{\"Nats-Msg-Id\":[\"e-1\"],\"a\":[\"1\",\"2\"],\"ce-partitionkey\":"
                + "[\"n 1\"]},\"data\":\"PGJvZHk+\",\"last_error\":\"no \\\"answer\\\"\",\"lane\":\"note/n 1\"}");
    SpooledEvent back = SpooledEvent.parse(letter.toJson());
    assertThat(back).usingRecursiveComparison().isEqualTo(letter);
    assertThat(back.lane()).isEqualTo("note/n 1");
  }

  @Test
  void readsWhatPeersWrite_andGivesItTheIdOfItsEvent() {
    SpooledEvent letter = SpooledEvent.parse("""
        {"last_error":"x","header":{"k":["v"],"n":null},"data":"%s","subject":"a.b.c",
         "created_at":"2026-04-15T12:00:00.5Z","id":"7","new":[]}\
        """.formatted(Base64.getEncoder()
            .encodeToString(
                ("{\"specversion\":\"1.0\",\"id\":\"e-9\",\"type\":\"t\",\"source\":\"s\","
                        + "\"time\":\"2026-04-15T12:00:00Z\"}")
                    .getBytes(StandardCharsets.UTF_8)))
        .getBytes(StandardCharsets.UTF_8));

    assertThat(letter.event().id()).isEqualTo("e-9");
    assertThat(letter.event().headers().get("k")).containsExactly("v");
    assertThat(letter.lane()).isNull();
    assertThat(SpooledEvent.parse(
                "{\"id\":\"7\",\"subject\":\"a\",\"created_at\":\"2026-04-15T12:00:00Z\",\"data\":null,\"header\":null}"
                    .getBytes(StandardCharsets.UTF_8))
            .event()
            .id())
        .isEqualTo("7");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "{",
        "[]",
        "{}",
        "{\"id\":\"1\",\"subject\":\"a\",\"created_at\":\"2026-04-15T12:00:00Z\"} {",
        "{\"id\":\"1\",\"subject\":\"a\",\"created_at\":\"yesterday\"}",
        "{\"id\":\"1\",\"subject\":\"a\",\"created_at\":\"2026-04-15T12:00:00Z\",\"data\":\"*\"}",
        "{\"id\":\"1\",\"subject\":\"a\",\"created_at\":\"2026-04-15T12:00:00Z\",\"header\":[]}",
        "{\"id\":\"1\",\"subject\":\"a\",\"created_at\":\"2026-04-15T12:00:00Z\",\"header\":{\"a\":1}}"
      })
  void refusesHalfARecord(String json) {
    assertThatThrownBy(() -> SpooledEvent.parse(json.getBytes(StandardCharsets.UTF_8)))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void keepsTheOrderOfItsRecords_whateverTheClockDoes() throws Exception {
    AtomicReference<Instant> clock = new AtomicReference<>(NOW);
    SpoolDirectory directory = SpoolDirectory.open(temp.resolve("a"), 100, clock::get);
    String first = name(directory.add(message("1"), directory.now(), "x"));
    String second = name(directory.add(message("2"), directory.now(), "x"));
    clock.set(NOW.minus(Duration.ofDays(1)));
    String third = name(directory.add(message("3"), directory.now(), "x"));
    SpoolDirectory again =
        SpoolDirectory.open(temp.resolve("a"), 100, () -> NOW.minus(Duration.ofDays(2)));
    String fourth = name(again.add(message("4"), again.now(), "x"));

    assertThat(List.of(first, second, third, fourth)).isSorted();
    assertThat(again.next(10, Set.of(), Set.of())).containsExactly(first, second, third, fourth);
    assertThat(again.next(2, Set.of("note/1"), Set.of())).containsExactly(second, third);
  }

  @Test
  void givesOneRecordOfAnAggregateAtATime_theOldest() throws Exception {
    SpoolDirectory directory = open(temp.resolve("a"));
    String first = name(directory.add(message("1"), directory.now(), "x"));
    directory.add(message("1"), directory.now(), "x");
    String loose = name(directory.add(message("2"), directory.now(), "x"));
    String loose2 = name(directory.add(message("3"), directory.now(), "x"));

    assertThat(directory.next(10, Set.of(), Set.of())).containsExactly(first, loose, loose2);
    assertThat(directory.next(10, Set.of(), Set.of("notes.changes.note.create")))
        .isEmpty();
    assertThat(holdsNote1(directory)).isTrue();
    directory.delete(first);
    assertThat(holdsNote1(directory)).isTrue();
    directory.delete(directory.next(1, Set.of(), Set.of()).get(0));
    assertThat(holdsNote1(directory)).isFalse();
    assertThat(directory.size()).isEqualTo(2);
  }

  @Test
  void makesADirectoryThatOthersCannotRead_andLeavesNoTemporaryFiles() throws Exception {
    Path path = temp.resolve("x/y");
    SpoolDirectory directory = open(path);
    directory.add(message("1"), directory.now(), "x");

    assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(path)))
        .isEqualTo("rwxr-x---");
    try (Stream<Path> files = Files.list(path)) {
      assertThat(files.map(file -> file.getFileName().toString()).filter(n -> n.endsWith(".tmp")))
          .isEmpty();
    }
  }

  @Test
  void writesRecordsThatOthersCannotRead_alsoWhereTheyCanReadTheDirectory() throws Exception {
    Path path = Files.createDirectory(temp.resolve("there"));
    Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rwxr-xr-x"));
    SpoolDirectory directory = open(path);
    Path file = directory.add(message("1"), directory.now(), "x");
    Path aside = directory.quarantine(name(directory.add(message("2"), directory.now(), "x")));

    assertThat(List.of(file, aside))
        .allSatisfy(
            each -> assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(each)))
                .isEqualTo("rw-------"));
    assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(path)))
        .as("as its owner has it")
        .isEqualTo("rwxr-xr-x");
  }

  @Test
  void seesWhatAnotherProcessWritesAndTakesAway() throws Exception {
    SpoolDirectory one = open(temp);
    SpoolDirectory two = open(temp);
    String name = name(one.add(message("1"), one.now(), "x"));

    two.refresh();
    assertThat(holdsNote1(two)).isTrue();
    two.delete(name);
    one.refresh();
    assertThat(one.size()).isZero();
    assertThat(holdsNote1(one)).isFalse();
  }

  @Test
  void joinsOnlyARecordOfTheSameAggregate() throws Exception {
    SpoolDirectory directory = open(temp);
    Instant begun = directory.now();
    assertThat(directory.addBehind(message("1"), begun, "x")).isNull();
    String later = name(directory.add(message("1"), directory.now(), "x"));
    assertThat(directory.addBehind(message("2"), begun, "x")).isNull();
    String earlier = name(directory.addBehind(message("1"), begun, "x"));

    assertThat(directory.next(10, Set.of(), Set.of()))
        .as("the one that began first")
        .containsExactly(earlier);
    directory.delete(earlier);
    assertThat(directory.next(10, Set.of(), Set.of())).containsExactly(later);
  }

  @Test
  void learnsTheAggregateOfARecord_onceItCanBeRead() throws Exception {
    Path file = open(temp).add(message("1"), NOW, "x");
    Path away = temp.resolve("away");
    Files.move(file, away);
    Files.createSymbolicLink(file, temp.resolve("nowhere"));
    SpoolDirectory directory = open(temp);
    Files.delete(file);
    Files.move(away, file);

    directory.refresh();

    assertThat(directory.addBehind(message("1"), directory.now(), "x")).isNotNull();
    assertThat(directory.next(10, Set.of(), Set.of())).containsExactly(name(file));
    assertThat(directory.size()).isEqualTo(2);
  }

  @Test
  void givesOthers_howManyAreBehindABlockedOne() throws Exception {
    for (int i = 0; i < 1200; i++) {
      SpooledEvent blocked = SpooledEvent.of(message("1"), NOW.plusNanos(i), "x");
      Files.write(temp.resolve(blocked.fileName()), blocked.toJson());
    }
    SpoolDirectory directory = SpoolDirectory.open(temp, 10_000, () -> NOW);
    String other = name(directory.add(message("2"), directory.now(), "x"));

    assertThat(directory.next(10, Set.of("note/1"), Set.of())).containsExactly(other);
    assertThat(directory.next(10, Set.of(), Set.of())).hasSize(2);
  }

  @Test
  void writesWhateverInterruptsIt() throws Exception {
    SpoolDirectory directory = open(temp);
    Thread.currentThread().interrupt();
    String name = name(directory.add(message("1"), directory.now(), "x"));

    assertThat(Thread.interrupted()).as("kept").isTrue();
    assertThat(directory.read(name).subject()).isEqualTo("notes.changes.note.create");
  }

  @Test
  void takesNoMoreThanItsLimit() throws Exception {
    SpoolDirectory directory = SpoolDirectory.open(temp, 1, () -> NOW);
    directory.add(message("1"), directory.now(), "x");
    assertThatThrownBy(() -> directory.add(message("2"), directory.now(), "x"))
        .hasMessageContaining("1 records");
    assertThat(directory.size()).isEqualTo(1);
  }

  @Test
  void countsNothing_whenTheDiskDoesNotTakeIt() throws Exception {
    SpoolDirectory directory = open(temp.resolve("a"));
    Files.delete(temp.resolve("a/quarantine"));
    Files.delete(temp.resolve("a"));
    assertThatThrownBy(() -> directory.add(message("1"), directory.now(), "x"))
        .isInstanceOf(IOException.class);
    assertThat(directory.size()).isZero();
    assertThat(holdsNote1(directory)).isFalse();
  }

  @Test
  void deletesWhatDeadWritersHaveLeft_andNotWhatIsBeingWritten() throws Exception {
    SpoolDirectory directory = SpoolDirectory.open(temp, 10, Instant::now);
    Path old = Files.writeString(temp.resolve(".old.tmp"), "{");
    Files.setLastModifiedTime(old, FileTime.from(Instant.now().minus(Duration.ofHours(2))));
    Path fresh = Files.writeString(temp.resolve(".new.tmp"), "{");

    directory.sweep();

    assertThat(old).doesNotExist();
    assertThat(fresh).exists();
  }

  @Test
  void letsOneReplayAtATime() throws Exception {
    SpoolDirectory one = open(temp);
    SpoolDirectory two = open(temp);
    try (SpoolDirectory.Replaying right = one.tryReplaying()) {
      assertThat(right).isNotNull();
      assertThat(two.tryReplaying()).isNull();
    }
    try (SpoolDirectory.Replaying right = two.tryReplaying()) {
      assertThat(right).isNotNull();
    }
  }

  @Test
  void letsNoOtherProcessReplay_alsoAfterAnotherOfThisOneHasTried() throws Exception {
    SpoolDirectory one = open(temp);
    SpoolDirectory two = open(temp);
    try (SpoolDirectory.Replaying right = one.tryReplaying()) {
      assertThat(right).isNotNull();
      assertThat(two.tryReplaying()).isNull();
      assertThat(rightOfAnotherProcess()).isEqualTo("no right");
    }
    assertThat(rightOfAnotherProcess()).isEqualTo("the right");
  }

  private String rightOfAnotherProcess() throws Exception {
    Process process = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp",
            System.getProperty("java.class.path"),
            Replayer.class.getName(),
            temp.toString())
        .redirectErrorStream(true)
        .start();
    try (InputStream out = process.getInputStream()) {
      return new String(out.readAllBytes(), StandardCharsets.UTF_8).strip();
    } finally {
      process.destroyForcibly();
    }
  }

  /** The process. */
  static final class Replayer {
    private Replayer() {}

    public static void main(String[] arguments) throws Exception {
      try (SpoolDirectory.Replaying right = open(Path.of(arguments[0])).tryReplaying()) {
        System.out.println(right == null ? "no right" : "the right");
      }
    }
  }

  private static boolean holdsNote1(SpoolDirectory directory) {
    return directory.next(1000, Set.of(), Set.of()).stream()
        .anyMatch(name -> directory.laneOf(name).equals("note/1"));
  }

  private static String name(Path file) {
    return file.getFileName().toString();
  }
}
