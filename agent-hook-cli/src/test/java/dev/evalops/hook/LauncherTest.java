package dev.evalops.hook;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.Distribution.Shell;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** The launcher with a Java that is a script, and so can do whatever a JVM might. */
@ParameterizedClass
@EnumSource(Shell.class)
class LauncherTest {
  private static final String ALLOW = "cat >/dev/null; exit 42";

  @Parameter
  private Shell shell;

  @TempDir
  private Path work;

  private Distribution hook;

  @BeforeEach
  void install() throws Exception {
    hook = Distribution.create(work, shell);
  }

  @Test
  void allows_whenTheHookReturnsTheAgreedStatus() throws Exception {
    hook.fakeJava("17.0.1", "[ \"$(cat)\" = '" + Launched.EVENT + "' ] && exit 42");

    hook.check().assertAllowed();
    assertThat(hook.check().err()).isEmpty();
  }

  @Test
  void passesADenyOn() throws Exception {
    String line = "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\","
        + "\"permissionDecision\":\"deny\",\"permissionDecisionReason\":\"no\"}}";
    hook.fakeJava("17.0.1", "cat >/dev/null; echo 'the reason' >&2; echo '" + line + "'; exit 2");

    Launched.Result result = hook.check();

    assertThat(result.out()).isEqualTo(line + "\n");
    assertThat(result.err()).startsWith("the reason\n");
    result.assertDenied();
  }

  @Test
  void addsNothing_whenTheHookHasSaidWhy() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; echo 'the reason' >&2; exit 44");

    Launched.Result result = hook.check();

    result.assertDenied();
    assertThat(result.err()).isEqualTo("the reason\n");
  }

  @Test
  void denies_whenTheHookDeniesWithoutAWord() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; exit 2");

    hook.check().assertDenied("not allowed");
  }

  @Test
  void denies_whateverElseTheJvmReturns() throws Exception {
    for (int status : new int[] {0, 1, 3, 41, 43, 126, 127, 130, 134, 139, 143, 255}) {
      hook.fakeJava("17.0.1", "exit " + status);
      hook.check().assertDenied("status " + status);
    }
  }

  @Test
  void denies_whenTheJvmIsKilled() throws Exception {
    hook.fakeJava("17.0.1", "kill -9 $$");
    hook.check().assertDenied("killed");
    hook.fakeJava("17.0.1", "kill -ABRT $$");
    hook.check().assertDenied("status 134");
    hook.fakeJava("17.0.1", "kill -TERM $$");
    hook.check().assertDenied("status 143");
  }

  @Test
  void denies_whenTheJvmHangs_withinItsTime() throws Exception {
    hook.edit(text -> text.replace("within:-590", "within:-1"));
    hook.fakeJava("17.0.1", "exec sleep 1000");

    hook.check().assertDenied("longer than 1 s");
  }

  @Test
  void denies_withinTheTimeOfTheHost() throws Exception {
    hook.fakeJava("17.0.1", "exec sleep 1000");
    try (Launched call = hook.start(Map.of(), "governance-check", "--within", "1")) {
      call.write(Launched.EVENT).end().assertDenied("longer than 1 s");
    }
    hook.fakeJava("17.0.1", ALLOW);
    for (String seconds : List.of("45", "590")) {
      try (Launched call = hook.start(Map.of(), "governance-check", "--within", seconds)) {
        call.write(Launched.EVENT).end().assertAllowed();
      }
    }
    for (String seconds : List.of("0", "-1", "591", "600", "1000", "05", "1.5", "x", "")) {
      try (Launched call = hook.start(Map.of(), "governance-check", "--within", seconds)) {
        call.write(Launched.EVENT).end().assertDenied("usage: evalops-agent-hook");
      }
    }
    for (String[] arguments : new String[][] {
      {"governance-check", "--within"},
      {"governance-check", "45", "--within"},
      {"governance-check", "--within", "45", "x"},
      {"serve", "--within", "45"}
    }) {
      try (Launched call = hook.start(Map.of(), arguments)) {
        call.write(Launched.EVENT).end().assertDenied("usage: evalops-agent-hook");
      }
    }
  }

  @Test
  void denies_whenThereIsNoJava() throws Exception {
    hook.configure("java=" + work.resolve("none/bin/java") + "\n");
    hook.check().assertDenied("no Java at");
    hook.configure("java=" + work + "\n");
    hook.check().assertDenied("no Java at");
    hook.configure("java=java\n");
    hook.check().assertDenied("not an absolute path");
    Distribution.mode("rw-r--r--", hook.fakeJava("17.0.1", ALLOW));
    hook.check().assertDenied("no Java at");
    Files.delete(hook.conf());
    hook.edit(text -> text.replace("/usr/lib/jvm/*/", "").replace("/usr/lib64/jvm/*/", ""));
    hook.check().assertDenied("no Java 17 or later");
  }

  @Test
  void denies_whenTheJavaIsTooOld() throws Exception {
    hook.fakeJava("1.8.0_402", ALLOW);
    hook.check().assertDenied("17 or later is needed");
    hook.fakeJava("11.0.2", ALLOW);
    hook.check().assertDenied("17 or later is needed");
    // One that does not say so, and does not know the options.
    Path java = hook.fakeJava("1.8.0_1", "echo 'Unrecognized option: -Xlog:disable' >&2; exit 1");
    Files.delete(java.getParent().resolveSibling("release"));
    hook.check().assertDenied("Unrecognized option");
  }

  @Test
  void findsTheNewestJavaInTheUsualPlaces() throws Exception {
    Path usual = work.resolve("usual places");
    Distribution.fakeJava(usual.resolve("jdk-8"), "1.8.0_1", ALLOW);
    Distribution.fakeJava(usual.resolve("jdk-17"), "17.0.9", "exit 1");
    Distribution.fakeJava(usual.resolve("jdk-25"), "25", ALLOW);
    Distribution.fakeJava(usual.resolve("jdk-9"), "9.0.4", "exit 1");
    hook.edit(text ->
        text.replace("/usr/lib/jvm/*/", "\"" + usual + "\"/*/").replace("/usr/lib64/jvm/*/", ""));

    hook.check(Map.of("JAVA_HOME", "/none", "PATH", "/none")).assertAllowed();
  }

  @Test
  void denies_whenItsFileIsNotWhatItKnows() throws Exception {
    Path java = hook.fakeJava("17.0.1", ALLOW);
    hook.configure("java=" + java + "\nallow=1\n");
    hook.check().assertDenied("unknown key");
    Files.delete(hook.conf());
    Files.createDirectory(hook.conf());
    hook.check().assertDenied("cannot be read");
    Files.delete(hook.conf());
    Files.createSymbolicLink(hook.conf(), work.resolve("none"));
    hook.check().assertDenied("cannot be read");
    Files.writeString(work.resolve("none"), "java=" + java + "\n");
    hook.check().assertDenied("can be changed by others");
  }

  @Test
  void readsItsFile_alsoWhenTheLastLineDoesNotEnd() throws Exception {
    Path java = hook.fakeJava("17.0.1", "cat >/dev/null; echo \"$@\" >&2; exit 2");
    hook.configure("# ours\n\njava=" + java + "\nconfig=/etc/evalops/a b=c.properties");

    hook.check().assertDenied(" --config /etc/evalops/a b=c.properties\n");
  }

  @Test
  void denies_whenTheJarIsMissing() throws Exception {
    hook.fakeJava("17.0.1", ALLOW);
    Files.delete(hook.jar());
    hook.check().assertDenied("jar is missing");
    Files.delete(hook.conf());
    Files.delete(hook.lib());
    hook.check().assertDenied("no lib directory");
  }

  @Test
  void denies_whenOthersCanChangeWhatDecides() throws Exception {
    hook.fakeJava("17.0.1", ALLOW);
    hook.check().assertAllowed();
    for (Path file : List.of(hook.jar(), hook.conf(), hook.lib())) {
      String usual = Files.isDirectory(file) ? "rwxr-xr-x" : "rw-r--r--";
      Distribution.mode(usual.substring(0, 4) + "w" + usual.substring(5), file);
      hook.check().assertDenied("can be changed by others");
      Distribution.mode(usual.substring(0, 7) + "w" + usual.substring(8), file);
      hook.check().assertDenied("can be changed by others");
      Distribution.mode(usual, file);
    }
  }

  @Test
  void denies_whenOthersCanChangeTheJava_whoseStatusIsTheAnswer() throws Exception {
    Path java = hook.fakeJava("17.0.1", ALLOW);
    for (Path file : List.of(java, java.getParent(), java.getParent().getParent())) {
      Distribution.mode("rwxrwxr-x", file);
      hook.check().assertDenied("can be changed by others");
      Distribution.mode("rwxr-xrwx", file);
      hook.check().assertDenied("can be changed by others");
      Distribution.mode("rwxr-xr-x", file);
      hook.check().assertAllowed();
    }
    Path link =
        Files.createSymbolicLink(work.resolve("current"), java.getParent().getParent());
    hook.configure("java=" + link.resolve("bin/java") + "\n");
    hook.check().assertAllowed();
    Distribution.mode("rwxr-xrwx", java);
    hook.check().assertDenied("can be changed by others");
  }

  @Test
  void denies_whenAnotherThanTheInstallationsOwnerHasTheJava() throws Exception {
    hook.fakeJava("17.0.1", ALLOW);
    // As ls would say of a Java of another user's; giving a file away needs root.
    hook.edit(text -> text.replace(
        "$(LC_ALL=C ls -ldnL . \"$java\"",
        "-rwxr-xr-x 1 4242 4242 1 Jan 1 10:00 $java\n$(LC_ALL=C ls -ldnL . \"$java\""));
    hook.check().assertDenied("can be changed by others");
  }

  @Test
  void denies_whenItCannotTellWhoCanChangeWhatDecides() throws Exception {
    hook.fakeJava("17.0.1", ALLOW);
    hook.edit(text -> text.replace("ls -ldn", "false"));
    hook.check().assertDenied("can be changed by others");
  }

  @Test
  void denies_whenTheCommandIsUnknown() throws Exception {
    hook.fakeJava("17.0.1", ALLOW);
    String[][] commands = {
      {},
      {""},
      {"help"},
      {"governance-check", "x"},
      {"governance-check", "--allow-exit-code", "0"},
      {"Governance-check"}
    };
    for (String[] command : commands) {
      try (Launched started = hook.start(Map.of(), command)) {
        started.end().assertDenied("usage");
      }
    }
  }

  @Test
  void keepsNobodyWaitingAtATerminal() throws Exception {
    hook.edit(text -> text.replace("watch 10", "watch 1000"));
    String command = "'" + hook.launcher() + "' help";
    try (Launched started =
        Launched.start(work, Map.of(), "/usr/bin/script", "-qec", command, "/dev/null")) {
      Launched.Result result = started.result();
      assertThat(result.status()).isEqualTo(2);
      assertThat(result.out()).startsWith("evalops-agent-hook: usage: ");
    }
  }

  @Test
  void asksTheHookInACleanEnvironment() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; env; pwd; exit 42");

    Map<String, String> environment = new TreeMap<>(Map.of("EVALOPS_WORKSPACE_ID", "kept"));
    for (String name : List.of(
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "CLASSPATH",
        "LD_LIBRARY_PATH",
        "JAVA_HOME",
        "PATH",
        "HOSTALIASES",
        "LOCALDOMAIN",
        "RES_OPTIONS")) {
      environment.put(name, "poison");
    }

    assertThat(hook.check(environment).out())
        .doesNotContain("poison")
        .contains("EVALOPS_WORKSPACE_ID=kept\n")
        .endsWith("\n/\n");
  }

  @Test
  void isNotFooledByTheEnvironmentOfItsShell() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; exit 1");
    String allow = "() { builtin exit 0; }";

    hook.check(Map.of(
            "SHELLOPTS",
            "noexec",
            "BASH_ENV",
            "/dev/null",
            "ENV",
            "/dev/null",
            "IFS",
            "=",
            "CDPATH",
            "/tmp",
            "BASH_FUNC_unset%%",
            allow,
            "BASH_FUNC_cd%%",
            allow,
            "BASH_FUNC_printf%%",
            allow,
            "BASH_FUNC_wait%%",
            allow,
            "BASH_FUNC_[%%",
            allow))
        .assertDenied("status 1");
    hook.check(Map.of("FUNCNEST", "1")).assertDenied("status 1");
  }

  @Test
  void denies_whenNoProcessCanBeStarted() throws Exception {
    Distribution.mode("rwxr-xr-x", work);
    hook.fakeJava("17.0.1", ALLOW);
    String other = Integer.valueOf(0).equals(Files.getAttribute(work, "unix:uid"))
        ? "setpriv --reuid=65000 --clear-groups " // root has no limit
        : "";

    try (Launched started = Launched.start(
        work,
        Map.of(),
        "/bin/sh",
        "-c",
        "exec " + other + "prlimit --nproc=1 " + hook.launcher() + " governance-check")) {
      started.write(Launched.EVENT).end().assertDenied();
    }
  }

  @Test
  void denies_whenTheWorkingDirectoryIsGone() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; pwd >&2; exit 2");
    Path gone = Files.createDirectory(work.resolve("gone"));

    try (Launched started = Launched.start(
        gone,
        Map.of(),
        "/bin/sh",
        "-c",
        "rmdir '" + gone + "'; exec '" + hook.launcher() + "' governance-check")) {
      started.end().assertDenied("/\n");
    }
  }

  @Test
  void runsFromWhereverItIsInstalled() throws Exception {
    Distribution moved = new Distribution(work.resolve("a b'c $d/evalops"));
    Files.createDirectories(moved.home().getParent());
    Files.move(hook.home(), moved.home());
    moved.fakeJava(
        "17.0.1",
        "cat >/dev/null; case $* in *\"a b'c \\$d/evalops/lib/evalops-agent-hook.jar\"*) exit 42 ;; esac");
    moved.check().assertAllowed();

    Path link = Files.createSymbolicLink(work.resolve("link"), moved.launcher());
    Path relative = Files.createSymbolicLink(
        work.resolve("relative"), Path.of("a b'c $d/evalops/bin/evalops-agent-hook"));
    Path second = Files.createSymbolicLink(work.resolve("second"), Path.of("relative"));
    Path folder = Files.createSymbolicLink(work.resolve("folder"), moved.home());
    for (String path : List.of(
        link.toString(),
        relative.toString(),
        second.toString(),
        folder + "/bin/evalops-agent-hook",
        "./second",
        "folder/bin/../bin/evalops-agent-hook")) {
      try (Launched started =
          Launched.start(work, Map.of("CDPATH", "/tmp"), path, "governance-check")) {
        started.write(Launched.EVENT).end().assertAllowed();
      }
    }
    try (Launched started = Launched.start(
        moved.launcher().getParent(),
        Map.of(),
        "/bin/sh",
        "evalops-agent-hook",
        "governance-check")) {
      started.write(Launched.EVENT).end().assertAllowed();
    }
  }

  @Test
  void denies_onASignal_andTakesTheJvmAlong() throws Exception {
    Path pid = work.resolve("pid");
    List<Long> jvms = new ArrayList<>();
    hook.fakeJava(
        "17.0.1", "echo $$ >" + pid + ".new; mv " + pid + ".new " + pid + "; exec sleep 1000");
    for (String signal : List.of("TERM", "INT", "HUP", "QUIT")) {
      Files.deleteIfExists(pid);
      try (Launched started = hook.startForSignals(Map.of())) {
        await().atMost(30, SECONDS).until(() -> Files.exists(pid));
        jvms.add(Long.parseLong(Files.readString(pid).strip()));
        started.signal(signal);

        started.result().assertDenied("signal");
      }
    }
    await()
        .atMost(30, SECONDS)
        .until(() -> jvms.stream()
            .flatMap(jvm -> ProcessHandle.of(jvm).stream())
            .noneMatch(ProcessHandle::isAlive));
  }

  @Test
  void denies_whenAStreamIsClosed() throws Exception {
    hook.fakeJava("17.0.1", "cat; exit 1");
    for (String closed : List.of("<&-", ">&-", "<&- >&-")) {
      try (Launched started = Launched.start(
          work,
          Map.of(),
          "/bin/sh",
          "-c",
          "exec '" + hook.launcher() + "' governance-check " + closed)) {
        started.end().assertDenied("status 1");
      }
    }
    try (Launched started = Launched.start(
        work,
        Map.of(),
        "/bin/sh",
        "-c",
        "exec '" + hook.launcher() + "' governance-check <&- >&- 2>&-")) {
      assertThat(started.end().status()).isEqualTo(2);
    }
    hook.fakeJava("17.0.1", "exit 42");
    try (Launched started = Launched.start(
        work,
        Map.of(),
        "/bin/sh",
        "-c",
        "exec '" + hook.launcher() + "' governance-check <&- >&- 2>&-")) {
      started.end().assertAllowed();
    }
  }

  @Test
  void takesTheWholeEvent_whenTheJvmDiesEarly() throws Exception {
    hook.fakeJava("17.0.1", "exit 134");
    byte[] block = new byte[1 << 20];

    try (Launched started = hook.start(Map.of(), "governance-check")) {
      OutputStream in = started.process().getOutputStream();
      for (int i = 0; i < 100; i++) {
        in.write(block);
      }
      started.end().assertDenied("status 134");
    }
  }

  @Test
  void denies_whenTheEventNeverEnds() throws Exception {
    hook.edit(text -> text.replace("watch 10", "watch 1"));
    hook.fakeJava("17.0.1", "exit 134");

    try (Launched started = hook.start(Map.of(), "governance-check")) {
      started.result().assertDenied("status 134");
    }
  }

  @Test
  void isNotSilent_whenASignalComesWhileItsWatcherIsForked() throws Exception {
    hook.edit(text -> text.replace("  dog=$!\n", "  kill -TERM $$\n  dog=$!\n"));
    hook.fakeJava("17.0.1", ALLOW);

    try (Launched started = hook.startForSignals(Map.of())) {
      started.write(Launched.EVENT).end().assertAllowed();
    }
  }

  @Test
  void isNotSilent_whenASignalComesWhileItsCacheIsMade() throws Exception {
    hook.cacheFolder();
    hook.fakeJava("17.0.1", "kill -TERM $PPID; exec sleep 1000");

    try (Launched started = hook.startForSignals(Map.of())) {
      started.write(Launched.EVENT).end().assertDenied("signal");
    }
  }

  /** As at a limit of descriptors; a bash ends with 1 then. */
  @Test
  void denies_whenItCannotKeepItsErrors() throws Exception {
    hook.edit(text -> text.replace("exec 3>&2", "exec 3>&9"));
    hook.fakeJava("17.0.1", ALLOW);

    hook.check().assertDenied("9: Bad file descriptor");
  }

  @Test
  void isNotSilent_whenASignalComesWhileItsErrorsAreTurnedElsewhere() throws Exception {
    hook.edit(text -> text.replace("{ LC_ALL=C.UTF-8; }", "{ kill -TERM $$; LC_ALL=C.UTF-8; }"));
    hook.fakeJava("17.0.1", ALLOW);

    try (Launched started = hook.startForSignals(Map.of("LC_ALL", "C"))) {
      started.write(Launched.EVENT).end().assertDenied("signal");
    }
  }

  @Test
  void leavesNoProcessBehind() throws Exception {
    hook.edit(text -> text.replace("left < 10 ? left : 10", "left < 1 ? left : 1"));
    hook.fakeJava("17.0.1", ALLOW);
    for (int i = 0; i < 20; i++) {
      hook.check().assertAllowed();
    }

    await()
        .atMost(30, SECONDS)
        .until(() -> ProcessHandle.allProcesses()
            .noneMatch(process ->
                process.info().commandLine().orElse("").contains(hook.home().toString())));
  }

  @Test
  void answersEachOfTwoHundredCallsAtOnce() throws Exception {
    hook.fakeJava("17.0.1", "case $(cat) in *\\\"odd\\\"*) exit 2 ;; *) exit 42 ;; esac");
    List<Launched> calls = new ArrayList<>();
    try {
      for (int i = 0; i < 200; i++) {
        calls.add(
            hook.start(Map.of(), "governance-check").write(i % 2 == 0 ? "\"even\"" : "\"odd\""));
        calls.get(i).process().getOutputStream().close();
      }
      for (int i = 0; i < 200; i++) {
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
  void startsWithTheCacheOfItsJava() throws Exception {
    String show = "cat >/dev/null; echo \"$@\" >&2; exit 2";
    Path old = hook.cache("17.0.1+1.jsa");
    Path newer = hook.cache("25.0.3+1.aot");

    hook.fakeJava("17.0.1", show);
    hook.check().assertDenied("-XX:SharedArchiveFile=" + old + " ");
    hook.fakeJava("25.0.3", show);
    hook.check().assertDenied("-XX:AOTCache=" + newer + " ");
    hook.fakeJava("21.0.3", show);
    assertThat(hook.check().err()).doesNotContain("SharedArchive", "AOTCache");
  }

  /** As in the profile of many a user. */
  @ParameterizedTest
  @CsvSource({"TIME_STYLE, long-iso", "TIME_STYLE, +%s", "QUOTING_STYLE, c"})
  void seesWhoCanChangeWhat_howeverTheUserLikesHisLists(String variable, String value)
      throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; echo \"$@\" >&2; exit 2");
    Path cache = hook.cache("17.0.1+1.jsa");

    hook.check(Map.of(variable, value)).assertDenied("-XX:SharedArchiveFile=" + cache + " ");
  }

  @Test
  void startsWithoutACache_thatOthersCanChangeOrThatIsOfAnotherJar() throws Exception {
    hook.fakeJava("17.0.1", "cat >/dev/null; echo \"$@\" >&2; exit 2");
    Path cache = hook.cache("17.0.1+1.jsa");

    Distribution.mode("rw-rw-r--", cache);
    assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
    Distribution.mode("rw-r--rw-", cache);
    assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
    Distribution.mode("rw-r--r--", cache);
    Distribution.mode("rwxrwxrwx", cache.getParent());
    assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
    Distribution.mode("rwxr-xr-x", cache.getParent());
    Files.setLastModifiedTime(hook.jar(), FileTime.from(Instant.now().plusSeconds(60)));
    assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
    Files.setLastModifiedTime(hook.jar(), FileTime.from(Instant.now().minusSeconds(60)));
    assertThat(hook.check().assertDenied().err()).contains("SharedArchive");
    FileTime time = Files.getLastModifiedTime(hook.jar());
    for (String other : List.of("other", "jar no", "no jars")) { // of the same size, or not
      Files.writeString(hook.jar(), other);
      Files.setLastModifiedTime(hook.jar(), time);
      assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
    }
    Files.writeString(hook.jar(), "no jar");
    Files.setLastModifiedTime(hook.jar(), time);
    assertThat(hook.check().assertDenied().err()).contains("SharedArchive");
    Files.delete(cache);
    Files.createSymbolicLink(cache, hook.jar());
    assertThat(hook.check().assertDenied().err()).doesNotContain("SharedArchive");
  }

  @Test
  void startsAgainWithoutTheCache_whenAJvmCannotStartWithIt() throws Exception {
    hook.fakeJava("17.0.1", "case $1 in -XX:SharedArchiveFile=*) exit 1 ;; esac; " + ALLOW);
    hook.cache("17.0.1+1.jsa");

    hook.check().assertAllowed();

    hook.fakeJava("17.0.1", "case $1 in -XX:SharedArchiveFile=*) exit 1 ;; esac; exit 1");
    hook.check().assertDenied("status 1");
    hook.fakeJava("17.0.1", "case $1 in -XX:SharedArchiveFile=*) exit 134 ;; esac; " + ALLOW);
    hook.check().assertDenied("status 134");
  }

  @Test
  void makesTheCacheOnce_whenTheJavaIsNew() throws Exception {
    Path log = work.resolve("log");
    String make = "case $* in *' prepare '*) for f; do :; done; echo made >>'" + log
        + "'; echo cache >\"$f\"; exit 0 ;; esac; "
        + "cat >/dev/null; case $1 in -XX:SharedArchiveFile=*) exit 42 ;; esac; exit 3";
    hook.cache("17.0.1+1.jsa");
    hook.fakeJava("17.0.2", make);

    hook.check().assertAllowed();
    hook.check().assertAllowed();

    assertThat(log).hasContent("made");
  }

  @Test
  void makesTheCacheOnce_whenManyCallsComeFirst() throws Exception {
    Path log = work.resolve("log");
    hook.cacheFolder();
    hook.fakeJava(
        "17.0.2",
        "case $* in *' prepare '*) for f; do :; done; echo made >>" + log
            + "; sleep 0.2; echo cache >\"$f\"; exit 0 ;; esac; " + ALLOW);
    List<Launched> calls = new ArrayList<>();
    try {
      for (int i = 0; i < 10; i++) {
        calls.add(hook.start(Map.of(), "governance-check").write(Launched.EVENT));
        calls.get(i).process().getOutputStream().close();
      }
      for (Launched call : calls) {
        call.result().assertAllowed();
      }
    } finally {
      calls.forEach(Launched::close);
    }
    assertThat(log).hasContent("made");
  }

  @Test
  void doesWithoutACache_whenItCannotBeMade() throws Exception {
    Path log = work.resolve("log");
    hook.cache("other");
    hook.fakeJava(
        "17.0.2", "case $* in *' prepare '*) echo tried >>'" + log + "'; exit 1 ;; esac; " + ALLOW);

    hook.check().assertAllowed();
    hook.check().assertAllowed();

    assertThat(log).hasContent("tried");
  }

  @Test
  void handsTheOtherCommandsOn() throws Exception {
    Path java = hook.fakeJava("17.0.1", "echo \"$@\"; exit 7");

    try (Launched started = hook.start(Map.of(), "install", "--host", "claude")) {
      Launched.Result result = started.end();
      assertThat(result.status()).isEqualTo(7);
      assertThat(result.out())
          .endsWith(" dev.evalops.hook.install.Maintenance install --java " + java + " --cache "
              + hook.lib().toRealPath().resolve("cache/" + hook.stamp() + "-17.0.1+1.jsa")
              + " --host claude\n");
    }
  }
}
