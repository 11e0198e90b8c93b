package dev.evalops.runtime.events;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.protobuf.Any;
import dev.evalops.runtime.events.notes.Note;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Reads events of bytes that Jazzer makes, guided by what they reach, in a process of its own. */
class EventFuzzTest {
  private static final Pattern RUNS = Pattern.compile("Done (\\d+) runs");

  @TempDir
  Path temp;

  @Test
  @Timeout(300)
  void throwsNothingButTheDocumentedException() throws Exception {
    fuzz("-max_total_time=4");
  }

  @Test
  @Tag("soak")
  @Timeout(1200)
  void throwsNothingButTheDocumentedException_inTenMillionRuns() throws Exception {
    fuzz("-runs=10000000", "-max_total_time=600");
  }

  private void fuzz(String... limits) throws Exception {
    Path corpus = Files.createDirectory(temp.resolve("corpus"));
    seeds(corpus);
    List<String> line = new ArrayList<>(List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-Xmx700m",
        "-cp",
        System.getProperty("java.class.path"),
        "com.code_intelligence.jazzer.Jazzer",
        "--target_class=" + EventFuzzer.class.getName(),
        "--instrumentation_includes=dev.evalops.**:tools.jackson.core.**",
        "--custom_hook_excludes=**",
        "--reproducer_path=" + temp,
        "-max_len=2048",
        "-artifact_prefix=" + temp + File.separator));
    line.addAll(List.of(limits));
    line.add(corpus.toString());
    Path log = temp.resolve("log");
    Process jazzer = new ProcessBuilder(line)
        .directory(temp.toFile())
        .redirectErrorStream(true)
        .redirectOutput(log.toFile())
        .start();
    try {
      assertThat(jazzer.waitFor(15, TimeUnit.MINUTES)).isTrue();
    } finally {
      jazzer.destroyForcibly();
    }
    String output = Files.readString(log, StandardCharsets.ISO_8859_1);
    int finding = Math.max(output.indexOf("== Java Exception"), output.length() - 6000);
    String end = output.substring(Math.max(0, finding));
    assertThat(jazzer.exitValue()).as(end).isZero();
    Matcher runs = RUNS.matcher(output);
    assertThat(runs.find()).as(end).isTrue();
    System.out.println("fuzzing: " + runs.group(1) + " runs");
    assertThat(Long.parseLong(runs.group(1))).isPositive();
  }

  private static void seeds(Path corpus) throws Exception {
    Note note = ProtoJsonTest.random(new Random(1), 1);
    Change change = Change.of("note", "n", "create")
        .organization("o")
        .sequence(1)
        .version(2)
        .payload(note);
    int count = 0;
    for (EventFormat format : EventFormat.values()) {
      byte[] body = format
          .encode(change, "notes.changes", Instant.now(), Map.of("traceparent", "t"))
          .body();
      seed(corpus, count++, format == EventFormat.PROTO_HEADERS ? 1 : 0, body);
    }
    JsonWriter json = new JsonWriter();
    ProtoJson.writeAny(json, note);
    seed(corpus, count++, 3, json.toBytes());
    seed(corpus, count++, 1, Any.pack(note).toByteArray());
    seed(corpus, count, 5, "2026-04-15T12:00:00Z%20".getBytes(StandardCharsets.US_ASCII));
  }

  private static void seed(Path corpus, int number, int flags, byte[] body) throws Exception {
    ByteArrayOutputStream seed = new ByteArrayOutputStream();
    seed.write(flags);
    seed.write(body);
    Files.write(corpus.resolve("seed" + number), seed.toByteArray());
  }
}
