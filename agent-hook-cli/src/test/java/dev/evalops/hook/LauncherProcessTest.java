package dev.evalops.hook;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.Distribution.Shell;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The distribution as it is built: its launcher and its jar on real JVMs, against a service on this machine. */
@ParameterizedClass
@MethodSource("setups")
class LauncherProcessTest {
  private static final Path BUILT = Path.of("target/evalops-agent-hook");

  /** A shell and a Java. */
  record Setup(Shell shell, Path javaHome) {
    @Override
    public String toString() {
      return shell + ", Java " + Distribution.major(javaHome);
    }
  }

  static List<Setup> setups() throws IOException {
    List<Path> homes = Distribution.javaHomes();
    return List.of(
        new Setup(Shell.DASH, homes.get(0)), new Setup(Shell.BASH, homes.get(homes.size() - 1)));
  }

  @Parameter
  private Setup setup;

  @TempDir
  private Path work;

  private Distribution hook;
  private Governance governance;
  private Map<String, String> environment;

  @BeforeEach
  void install() throws Exception {
    governance = Governance.start();
    hook = Distribution.copy(BUILT, work.resolve("evalops"));
    hook.edit(text -> text.replaceFirst("#!/bin/sh -p", "#!" + sh() + " -p"));
    // A machine that does much else at once makes no cache in the usual time.
    hook.edit(text -> text.replace("run 30 ", "run 120 "));
    hook.configure("java=" + setup.javaHome() + "/bin/java\n");
    environment = Map.of(
        "EVALOPS_GOVERNANCE_URL", governance.url(),
        "EVALOPS_GOVERNANCE_TIMEOUT", "60s",
        "EVALOPS_WORKSPACE_ID", "w",
        "EVALOPS_AGENT_ID", "a",
        "EVALOPS_AGENT_TOKEN", "token-xyz");
  }

  @AfterEach
  void stop() {
    governance.close();
  }

  private Path sh() {
    try {
      return setup.shell().sh(work);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private Launched.Result check(String... more) throws Exception {
    Map<String, String> all = new TreeMap<>(environment);
    for (int i = 0; i < more.length; i += 2) {
      all.put(more[i], more[i + 1]);
    }
    return hook.check(all);
  }

  private Launched waiting() throws Exception {
    governance.hold();
    int before = governance.requests();
    Launched started = hook.startForSignals(environment).write(Launched.EVENT);
    started.process().getOutputStream().close();
    await().atMost(60, SECONDS).until(() -> governance.requests() > before);
    return started;
  }

  private static ProcessHandle jvm(Launched started) {
    return started
        .process()
        .descendants()
        .filter(process -> process.info().command().orElse("").endsWith("/java"))
        .findFirst()
        .orElseThrow();
  }

  /** As for a user with such a home, whose host was not given a locale, or one that this machine has not. */
  @ParameterizedTest
  @ValueSource(strings = {"C", "xx_XX.UTF-8"})
  void readsAPathOutsideAscii_whateverTheLocale(String locale) throws Exception {
    Map<String, String> all = new TreeMap<>(environment);
    all.put("LC_ALL", locale);
    String folder = "\"$(printf 'h\\303\\274')\""; // the JVM of this test may not know such a name
    String move = "mkdir " + folder + " && mv evalops " + folder + "/evalops && exec ./" + folder;
    String command = move + "/evalops/bin/evalops-agent-hook governance-check";
    Launched.start(work, all, "/bin/sh", "-c", command)
        .write(Launched.EVENT)
        .end()
        .assertAllowed();
  }

  @Test
  void allows_whenTheServiceAllows() throws Exception {
    Launched.Result result = check();

    result.assertAllowed();
    assertThat(result.err()).isEmpty();
    assertThat(governance.requests()).isEqualTo(1);
  }

  @Test
  void denies_whenTheServiceDenies() throws Exception {
    governance.decide("ACTION_DECISION_DENY");

    Launched.Result result = check();

    result.assertDenied();
    assertThat(result.err()).isEqualTo("evalops-agent-hook: denied: policy\n");
    assertThat(result.out()).isNotEmpty();
  }

  @Test
  void asksAboutTheShellCommandOfASkill_asAboutBash() throws Exception {
    String event =
        Files.readString(Path.of("src/test/resources/payloads/15-claude-skill-shell.json"));
    try (Launched started = hook.start(environment, "governance-check")) {
      started.write(event).end().assertAllowed();
    }
    governance.decide("ACTION_DECISION_DENY");
    try (Launched started = hook.start(environment, "governance-check")) {
      started.write(event).end().assertDenied("denied: policy");
    }
    assertThat(governance.requests()).isEqualTo(2);
  }

  @Test
  void denies_whenNothingIsConfigured() throws Exception {
    hook.check(Map.of()).assertDenied("EVALOPS_GOVERNANCE_URL");
  }

  @Test
  void isNotToldWhatToDoByOptionsOfTheJvmInItsEnvironment() throws Exception {
    governance.decide("ACTION_DECISION_DENY");
    for (String options : List.of(
        "-Xshare:dump",
        "-Xlog:help",
        "-Xinternalversion",
        "-agentlib:jdwp=help",
        "-XX:+PrintFlagsFinal",
        "-version")) {
      check(
              "JAVA_TOOL_OPTIONS",
              options,
              "_JAVA_OPTIONS",
              options,
              "JDK_JAVA_OPTIONS",
              "--list-modules")
          .assertDenied("denied");
    }
  }

  @Test
  void printsNothing_whenAllowed_whateverTheLauncherOfJavaIsToldToPrint() throws Exception {
    check("_JAVA_LAUNCHER_DEBUG", "1").assertAllowed();
  }

  @Test
  void denies_whenTheJvmEndsWellWithoutRunningUs() throws Exception {
    for (String options :
        List.of("-Xlog:help", "-Xinternalversion", "-XX:+PrintFlagsFinal --version")) {
      hook.fakeJava(
          "17.0.1",
          "cat >/dev/null; exec " + setup.javaHome() + "/bin/java " + options + " \"$@\" >&2");

      check().assertDenied("status 0");
      assertThat(governance.requests()).isZero();
    }
  }

  @Test
  void denies_whenTheJarIsDamaged() throws Exception {
    byte[] jar = Files.readAllBytes(hook.jar());
    for (int size : new int[] {0, 100, jar.length / 2, jar.length - 1}) {
      Files.write(hook.jar(), Arrays.copyOf(jar, size));
      check().assertDenied();
    }
    Files.write(hook.jar(), new byte[jar.length]);
    check().assertDenied();
  }

  @Test
  void answersWithoutAHomeAndWithoutAWorkingDirectory() throws Exception {
    check("HOME", "/nonexistent", "TMPDIR", "/nonexistent").assertAllowed();
    check("HOME", "/proc", "TMPDIR", "/proc").assertAllowed(); // where nobody can write
    Path gone = Files.createDirectory(work.resolve("gone"));
    try (Launched started = Launched.start(
        gone,
        environment,
        "/bin/sh",
        "-c",
        "rmdir '" + gone + "'; exec '" + hook.launcher() + "' governance-check")) {
      started.write(Launched.EVENT).end().assertAllowed();
    }
  }

  @Test
  void answersEachOfManyCallsAtOnce() throws Exception {
    callsAtOnce(20);
  }

  @Test
  @Tag("soak")
  void answersEachOfTwoHundredCallsAtOnce() throws Exception {
    long start = System.nanoTime();
    callsAtOnce(200);
    System.out.printf(
        "%s: 200 calls at once answered in %.1f s%n", setup, (System.nanoTime() - start) / 1e9);
  }

  private void callsAtOnce(int count) throws Exception {
    List<Launched> calls = new ArrayList<>();
    try {
      for (int i = 0; i < count; i++) {
        Launched call = hook.start(environment, "governance-check");
        calls.add(call.write(i % 2 == 0 ? Launched.EVENT : "{\"tool_name\":"));
        call.process().getOutputStream().close();
      }
      for (int i = 0; i < count; i++) {
        Launched.Result result = calls.get(i).result();
        if (i % 2 == 0) {
          result.assertAllowed();
        } else {
          result.assertDenied();
        }
      }
    } finally {
      calls.forEach(Launched::close);
    }
  }

  @Test
  void denies_onASignalWhileItWaits() throws Exception {
    for (String signal : List.of("TERM", "INT", "HUP", "QUIT")) {
      try (Launched started = waiting()) {
        started.signal(signal);
        started.result().assertDenied("signal");
      }
    }
  }

  @Test
  void denies_whenTheJvmIsKilledWhileItWaits() throws Exception {
    try (Launched started = waiting()) {
      jvm(started).destroyForcibly();
      started.result().assertDenied("killed");
    }
    try (Launched started = waiting()) {
      jvm(started).destroy();
      started.result().assertDenied();
    }
  }

  @Test
  void denies_whenTheJvmIsStoppedForever() throws Exception {
    // Time that stands still until the JVM has been stopped, and then flies.
    Path stopped = work.resolve("stopped");
    hook.edit(text ->
        text.replace("sleep $nap &", "{ until [ -e '" + stopped + "' ]; do sleep 0.1; done; } &"));
    try (Launched started = waiting()) {
      new ProcessBuilder("kill", "-STOP", String.valueOf(jvm(started).pid()))
          .start()
          .waitFor();
      Files.createFile(stopped);
      started.result().assertDenied("longer than 590 s");
    }
  }

  @Test
  void denies_whenTheEventNeverEnds() throws Exception {
    Map<String, String> hurried = new TreeMap<>(environment);
    hurried.put("EVALOPS_HOOK_DEADLINE", "1s");
    hurried.put("EVALOPS_GOVERNANCE_TIMEOUT", "1s");
    try (Launched started = hook.start(hurried, "governance-check").write("{\"tool_name\":")) {
      started.result().assertDenied("no decision within 1 s");
    }
    assertThat(governance.requests()).isZero();
  }

  @Test
  void denies_whenTheEventIsTooLarge_andTakesAllOfIt() throws Exception {
    byte[] block = new byte[1 << 20];
    Arrays.fill(block, (byte) ' ');
    for (boolean damaged : new boolean[] {false, true}) {
      if (damaged) {
        Files.write(hook.jar(), new byte[10]);
      }
      try (Launched started = hook.start(environment, "governance-check")) {
        OutputStream in = started.process().getOutputStream();
        for (int i = 0; i < 100; i++) {
          in.write(block);
        }
        started.end().assertDenied();
      }
    }
    assertThat(governance.requests()).isZero();
  }

  @Test
  void denies_whenItsMemoryIsTooSmall() throws Exception {
    hook.edit(text -> text.replace("-Xmx256m", "-Xmx8m"));
    String event = Launched.EVENT.replace("ls", "l".repeat(7 << 20));
    try (Launched started = hook.start(environment, "governance-check")) {
      started.write(event).end().assertDenied();
    }
  }

  @Test
  void judgesTheLargestEvent() throws Exception {
    String event = Launched.EVENT.replace("ls", "l".repeat((8 << 20) - 500));
    try (Launched started = hook.start(environment, "governance-check")) {
      started.write(event).end().assertAllowed();
    }
  }

  @Test
  void answersWhenAStreamIsClosed() throws Exception {
    for (String closed : List.of(">&-", "2>&-", ">&- 2>&-")) {
      try (Launched started = Launched.start(
          work,
          environment,
          "/bin/sh",
          "-c",
          "exec '" + hook.launcher() + "' governance-check " + closed)) {
        started.write(Launched.EVENT).end().assertAllowed();
      }
      governance.decide("ACTION_DECISION_DENY");
      try (Launched started = Launched.start(
          work,
          environment,
          "/bin/sh",
          "-c",
          "exec '" + hook.launcher() + "' governance-check " + closed)) {
        assertThat(started.write(Launched.EVENT).end().status()).isEqualTo(2);
      }
      governance.decide("ACTION_DECISION_ALLOW");
    }
    try (Launched started = Launched.start(
        work,
        environment,
        "/bin/sh",
        "-c",
        "exec '" + hook.launcher() + "' governance-check <&-")) {
      started.end().assertDenied();
    }
  }

  private List<Path> caches() throws IOException {
    try (Stream<Path> files = Files.list(hook.lib().resolve("cache"))) {
      return files.sorted().toList();
    }
  }

  @Test
  void makesItsCacheAtTheFirstCall_livesWithADamagedOne_andNeverRunsThatOfAnotherJar()
      throws Exception {
    hook.cacheFolder();

    check().assertAllowed();

    assertThat(caches())
        .singleElement()
        .asString()
        .endsWith(Distribution.major(setup.javaHome()) >= 25 ? ".aot" : ".jsa");
    Path cache = caches().get(0);
    byte[] good = Files.readAllBytes(cache);
    check().assertAllowed();
    for (int size : new int[] {0, 1, 1000, good.length / 2, good.length - 1}) {
      Files.write(cache, Arrays.copyOf(good, size));
      check().assertAllowed();
    }
    Files.write(cache, "nothing".repeat(good.length / 7).getBytes(StandardCharsets.US_ASCII));
    check().assertAllowed();
    byte[] damaged = good.clone();
    Arrays.fill(damaged, 0, 64, (byte) 0xff);
    Files.write(cache, damaged);
    check().assertAllowed();
    assertThat(governance.requests()).isEqualTo(9);

    Files.write(cache, good);
    byte[] jar = Files.readAllBytes(hook.jar());
    FileTime time = Files.getLastModifiedTime(hook.jar());
    byte[] garbage = new byte[jar.length];
    Arrays.fill(garbage, (byte) 'x');

    Files.write(hook.jar(), garbage);
    Files.setLastModifiedTime(hook.jar(), time);
    check().assertDenied();

    Files.write(hook.jar(), jar);
    Files.setLastModifiedTime(hook.jar(), time);
    // With every Java in the long form, because a cache takes seconds.
    if (Distribution.major(setup.javaHome()) < 25) {
      makesAnotherCache(jar, time);
    }
  }

  @Test
  @Tag("soak")
  void makesAnotherCache_whenTheJarIsAnotherOne() throws Exception {
    hook.cacheFolder();
    check().assertAllowed();
    makesAnotherCache(Files.readAllBytes(hook.jar()), Files.getLastModifiedTime(hook.jar()));
  }

  /** As on a disk that is full; else each call would take the seconds of another trial. */
  @Test
  void triesOnce_whenItsCacheCannotBeMade() throws Exception {
    hook.cacheFolder();
    String command = "ulimit -f 100; exec '" + hook.launcher() + "' governance-check";
    try (Launched started = Launched.start(work, environment, "/bin/sh", "-c", command)) {
      started.write(Launched.EVENT).end().assertAllowed();
    }

    check().assertAllowed();

    assertThat(caches()).singleElement().asString().endsWith(".lock");
  }

  private void makesAnotherCache(byte[] jar, FileTime time) throws Exception {
    int before = governance.requests();
    // Another build: the same with a comment at the end of the archive.
    byte[] other = Arrays.copyOf(jar, jar.length + 1);
    other[jar.length - 2] = 1;
    Files.write(hook.jar(), other);
    Files.setLastModifiedTime(hook.jar(), time);
    Path old = caches().stream().filter(Files::isRegularFile).findFirst().orElseThrow();
    check().assertAllowed();
    assertThat(old).doesNotExist();
    assertThat(hook.lib().resolve("cache"))
        .isDirectoryContaining(
            file -> file.getFileName().toString().matches(hook.stamp() + "-.*[.](aot|jsa)"));
    assertThat(governance.requests()).isEqualTo(before + 1);
  }

  @Test
  @Tag("soak")
  void makesAnotherCache_whenTheJavaIsAnotherOne() throws Exception {
    hook.cacheFolder();
    for (Path home : Distribution.javaHomes()) {
      hook.configure("java=" + home + "/bin/java\n");
      check().assertAllowed();
    }
    assertThat(caches()).hasSameSizeAs(Distribution.javaHomes());
    check().assertAllowed();
  }

  @Test
  @Tag("soak")
  void makesOneCache_whenManyCallsComeFirst() throws Exception {
    hook.cacheFolder();
    callsAtOnce(10);

    assertThat(caches()).hasSize(1);
  }
}
