package dev.evalops.conformance;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.as;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.InstanceOfAssertFactories.STRING;

import com.sun.net.httpserver.HttpServer;
import dev.evalops.conformance.Shell.Result;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The scripts that decide and publish a release, in repositories made for it. */
class ReleaseScriptsTest {
  /** Files of such names fill a pipe: find is still writing when who reads the first is gone. */
  private static final int MANY = 400;

  private static final String LONG = "a".repeat(200);

  @TempDir
  Path folder;

  private Path repository;
  private Shell shell;

  @BeforeEach
  void newRepository() throws Exception {
    repository = Files.createDirectory(folder.resolve("repository"));
    shell = new Shell(repository).newRepository().commit("feat: one");
  }

  @Test
  void firstVersionIs010_withoutATag() throws Exception {
    assertThat(shell.script("next-version")).isEqualTo("v0.1.0");
  }

  @Test
  void nextVersionIsTheNextPatchOfTheTag() throws Exception {
    shell.tag("v0.1.9").commit("fix: two");
    assertThat(shell.script("next-version")).isEqualTo("v0.1.10");
  }

  @Test
  void nextVersionGoesOnFromAMinorThatWasCutByHand() throws Exception {
    shell.tag("v0.1.9", "v0.1.10").commit("feat: two").tag("v0.2.0").commit("fix: three");
    assertThat(shell.script("next-version")).isEqualTo("v0.2.1");
  }

  @Test
  void nextVersionGoesOnFromTheNewest_notFromTheLastThatWasTagged() throws Exception {
    shell.tag("v1.10.0").commit("fix: two").tag("v1.9.1").commit("fix: three");
    assertThat(shell.script("next-version")).isEqualTo("v1.10.1");
  }

  @Test
  void nextVersionIsTheTagOfThisVeryCommit() throws Exception {
    shell.tag("v0.1.0").commit("feat: two").tag("v1.0.0");
    assertThat(shell.script("next-version")).isEqualTo("v1.0.0");
    shell.tag("v1.1.0");
    assertThat(shell.script("next-version")).as("two tags").isEqualTo("v1.1.0");
  }

  @Test
  void nextVersionIsAnOldTag_whenItsCommitIsReleasedAgain() throws Exception {
    shell.tag("v0.1.0").commit("feat: two").tag("v0.1.1").run("git", "checkout", "-q", "v0.1.0");
    assertThat(shell.script("next-version")).isEqualTo("v0.1.0");
  }

  @Test
  void nextVersionIsNotGuessed_whereTheNewestIsNewerThanTheCommit() throws Exception {
    shell.tag("v0.1.0").commit("fix: two").commit("fix: three").tag("v0.1.1");
    shell.run("git", "checkout", "-q", "HEAD^");
    Result result = shell.tryScript("next-version");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("a part of v0.1.1", "tag by hand");
    shell.tag("v0.1.2");
    assertThat(shell.script("next-version")).isEqualTo("v0.1.2");
  }

  @Test
  void nextVersionFollowsTheNewest_alsoOfAnotherBranch() throws Exception {
    shell.tag("v0.1.0");
    shell.run("git", "checkout", "-q", "-b", "other");
    shell.commit("feat: two").tag("v0.2.0");
    shell.run("git", "checkout", "-q", "main");
    shell.commit("fix: three");
    assertThat(shell.script("next-version")).isEqualTo("v0.2.1");
  }

  @Test
  void nextVersionComparesNumbers() throws Exception {
    shell.tag("v9.99.999", "v10.0.0").commit("fix: two");
    assertThat(shell.script("next-version")).isEqualTo("v10.0.1");
  }

  @Test
  void nextVersionIsNotGuessed_whereGitDoesNotAnswer() throws Exception {
    Result result = new Shell(Files.createDirectory(folder.resolve("elsewhere")))
        .with("GIT_CEILING_DIRECTORIES", folder.toString())
        .tryScript("next-version");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("there is no commit here");
    // Git itself is there, and cannot list the tags.
    shell.withProgram(
        "git",
        "[ \"$1\" != tag ] || exit 128; exec " + shell.run("sh", "-c", "command -v git")
            + " \"$@\"");
    assertThat(shell.tryScript("next-version").status()).isEqualTo(128);
  }

  @Test
  void nextVersionReadsAnnotatedTags() throws Exception {
    shell.run("git", "tag", "-a", "-m", "by hand", "v2.0.0");
    assertThat(shell.script("next-version")).isEqualTo("v2.0.0");
  }

  @Test
  void nextVersionDoesNotCountOddTags() throws Exception {
    shell.tag("v1.2", "v1.2.3-rc1", "foo", "v01.2.3", "1.2.3", "xv1.2.3", "v1.2.3.4", "v1.02.3");
    assertThat(shell.script("next-version")).isEqualTo("v0.1.0");
    shell.commit("fix: two").tag("v0.3.0").commit("fix: three");
    assertThat(shell.script("next-version")).isEqualTo("v0.3.1");
  }

  @Test
  void nextVersionIsNotGuessedInAShallowClone() throws Exception {
    shell.commit("fix: two");
    shell.run("git", "clone", "-q", "--depth", "1", "file://" + repository, "../shallow");
    Result result = new Shell(folder.resolve("shallow")).tryScript("next-version");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("shallow clone");
  }

  @Test
  void notesListTheCommitsSinceTheVersionBefore_byKind() throws Exception {
    shell
        .tag("v0.1.0")
        .commit("fix(http): drain")
        .commit("feat(auth)!: scopes are sets")
        .commit("Tidy: up")
        .commit("feat: keys\n\nBREAKING CHANGE: keys begin with pk_")
        .commit("feat(redis): TLS")
        .commit("perf: less");
    assertThat(shell.script("release-notes", "v0.1.1").replaceAll("\\([0-9a-f]{7,}\\)", "(hash)"))
        .isEqualTo("""
            ## v0.1.1

            ### Breaking

            - **auth**: scopes are sets (hash)
            - keys (hash)
              keys begin with pk_

            ### New

            - **redis**: TLS (hash)

            ### Mended

            - **http**: drain (hash)

            ### Faster

            - less (hash)

            ### Also

            - Tidy: up (hash)""");
  }

  @Test
  void notesEndAtTheTag_whenTheReleaseIsMadeAgain() throws Exception {
    shell.commit("fix: two").tag("v0.1.0").commit("fix: three");
    assertThat(shell.script("release-notes", "v0.1.0"))
        .contains("- one", "- two")
        .doesNotContain("three");
  }

  @Test
  void notesSayThatNothingHasChanged() throws Exception {
    shell.tag("v0.1.0", "v0.2.0");
    assertThat(shell.script("release-notes", "v0.2.0")).contains("Nothing has changed.");
  }

  @Test
  void archivesOfTheHookAreNamedForEachPlatform() throws Exception {
    Path archive = archive("evalops-agent-hook/bin/evalops-agent-hook");
    shell.script("hook-archives", "v1.2.3", archive.toString(), "out");
    String sums = Files.readString(repository.resolve("out/SHA256SUMS"));
    for (String platform :
        new String[] {"darwin-amd64", "darwin-arm64", "linux-amd64", "linux-arm64"}) {
      String name = "evalops-agent-hook-v1.2.3-" + platform + ".tar.gz";
      assertThat(repository.resolve("out").resolve(name)).hasSameBinaryContentAs(archive);
      assertThat(sums).contains("  " + name + "\n");
    }
  }

  @Test
  void archivesOfSomethingElseAreRefused() throws Exception {
    Result result = shell.tryScript("hook-archives", "v1.2.3", archive("other").toString(), "out");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("holds no evalops-agent-hook/bin/evalops-agent-hook");
  }

  @Test
  void releaseIsNotBuiltForWhatIsNoVersion() throws Exception {
    Result result = shell.tryScript("build-release", "1.2");
    assertThat(result.status()).isEqualTo(2);
    assertThat(result.text()).contains("'1.2' is no vX.Y.Z");
  }

  @Test
  void bundleIsCheckedForWhatCentralAsksFor() throws Exception {
    Path artifact = Files.createDirectories(repository.resolve("m2/dev/evalops/runtime-a/1.2.3"));
    String elements = "<name/><description/><url/><license/><developer/><scm/>";
    for (String end :
        new String[] {".jar", "-sources.jar", "-javadoc.jar", "-cyclonedx.json", ".pom"}) {
      for (String suffix : new String[] {"", ".md5", ".sha1"}) {
        Files.writeString(
            artifact.resolve("runtime-a-1.2.3" + end + suffix), elements.replace("/>", ">"));
      }
    }
    assertThat(shell.script("check-bundle", "m2", "1.2.3"))
        .endsWith("check-bundle: 1 artifacts of 1.2.3 are complete");
    assertThat(shell.tryScript("check-bundle", "m2", "1.2.4"))
        .isEqualTo(new Result(1, "check-bundle: nothing of version 1.2.4"));

    Files.writeString(artifact.resolve("runtime-a-1.2.3.jar.asc"), "signature");
    Files.delete(artifact.resolve("runtime-a-1.2.3-sources.jar"));
    Files.writeString(artifact.resolve("runtime-a-1.2.3.pom"), "<parent><name>");
    Result result = shell.tryScript("check-bundle", "m2", "1.2.3");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text())
        .contains(
            "no runtime-a-1.2.3-sources.jar",
            "no runtime-a-1.2.3.pom.asc",
            "no <scm> in runtime-a-1.2.3.pom",
            "names a parent or a snapshot")
        .doesNotContain("no runtime-a-1.2.3.jar");
  }

  @Test
  void bundleWithManySignaturesIsSigned_andWithManySnapshotsRefused() throws Exception {
    Path artifact = Files.createDirectories(repository.resolve("m2/dev/evalops/runtime-a/1.2.3"));
    for (int i = 0; i < MANY; i++) {
      Files.writeString(artifact.resolve(LONG + i + ".asc"), "");
      Files.writeString(artifact.resolve(LONG + "SNAPSHOT" + i), "");
    }
    Files.writeString(artifact.resolve("runtime-a-1.2.3.pom"), "");
    Result result = shell.tryScript("check-bundle", "m2", "1.2.3");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("no runtime-a-1.2.3.pom.asc", "snapshots are in it");
  }

  @Test
  void publishesTagReleaseAndBundle_andNothingMoreTheSecondTime() throws Exception {
    readyToPublish();
    try (Central central = new Central()) {
      String output = shell.script("publish-release", "v0.1.0");
      assertThat(output)
          .contains("v0.1.0 is handed to Central", "deployment 28570f16")
          .doesNotContain("c2VjcmV0");
      assertThat(central.uploads)
          .singleElement(as(STRING))
          .contains("publishingType=AUTOMATIC", "Bearer c2VjcmV0", "the bundle");
      assertThat(calls())
          .contains(
              "release create v0.1.0 --draft --verify-tag",
              "v0.1.0-linux-arm64.tar.gz",
              "SHA256SUMS",
              "central-deployment.txt")
          .endsWith("release edit v0.1.0 --draft=false\n");
      assertThat(shell.run("git", "ls-remote", "origin")).contains("refs/tags/v0.1.0");

      String before = calls();
      assertThat(shell.script("publish-release", "v0.1.0")).contains("already released");
      assertThat(calls()).isEqualTo(before);
      assertThat(central.uploads).hasSize(1);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"create", "upload", "edit"})
  void uploadsOnce_whenGitHubFailsAndItIsRunAgain(String command) throws Exception {
    readyToPublish();
    try (Central central = new Central()) {
      Files.writeString(repository.resolve("gh.fails"), command);
      assertThat(shell.tryScript("publish-release", "v0.1.0").status()).isEqualTo(1);
      // The next run is on another machine, which has built anew.
      Files.deleteIfExists(repository.resolve("target/release/central-deployment.txt"));
      shell.script("publish-release", "v0.1.0");
      assertThat(central.uploads).hasSize(1);
      assertThat(calls().lines().filter(call -> call.startsWith("release create")))
          .hasSize(1);
      assertThat(calls()).endsWith("release edit v0.1.0 --draft=false\n");
    }
  }

  @Test
  void publishesNothing_whenGitHubDoesNotSayWhatIsReleased() throws Exception {
    readyToPublish();
    shell.withProgram("gh", "echo 'HTTP 502' >&2; exit 1");
    Result result = shell.tryScript("publish-release", "v0.1.0");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("cannot see whether v0.1.0 is released: HTTP 502");
  }

  @Test
  void publishesToGitHubAlone_withoutAnAccountAtCentral() throws Exception {
    readyToPublish();
    assertThat(shell.script("publish-release", "v0.1.0")).contains("not published to Central");
    assertThat(calls())
        .contains("release create v0.1.0", "release edit v0.1.0 --draft=false")
        .doesNotContain("central-deployment.txt");
  }

  @Test
  void publishesNothingUnsignedToCentral() throws Exception {
    readyToPublish();
    for (int i = 0; i < MANY; i++) {
      Files.delete(repository.resolve("target/release/repository/" + LONG + i + ".asc"));
    }
    shell.with("CENTRAL_UPLOAD_URL", "http://127.0.0.1:1/").with("CENTRAL_TOKEN", "c2VjcmV0");
    Result result = shell.tryScript("publish-release", "v0.1.0");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("signed jars only");
    assertThat(repository.resolve("gh.log")).doesNotExist();
    assertThat(shell.run("git", "ls-remote", "origin")).isEmpty();
    assertThat(shell.run("git", "tag")).isEmpty();
  }

  @Test
  void doesNotMoveTheTagOfAnotherCommit() throws Exception {
    readyToPublish();
    shell.tag("v0.1.0").commit("fix: two");
    Result result = shell.tryScript("publish-release", "v0.1.0");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("the tag of another commit");
  }

  @Test
  void publishesNothing_whenAnotherVersionWasBuilt() throws Exception {
    readyToPublish();
    Result result = shell.tryScript("publish-release", "v0.1.1");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("nothing of v0.1.1 in target/release");
    assertThat(shell.run("git", "ls-remote", "origin")).isEmpty();
  }

  @Test
  void publishesNothing_withoutTheProgramOfGitHub() throws Exception {
    readyToPublish();
    Path tools = Files.createDirectory(folder.resolve("tools"));
    for (String tool : new String[] {"bash", "env", "git"}) {
      Files.createSymbolicLink(
          tools.resolve(tool), Path.of(shell.run("sh", "-c", "command -v " + tool)));
    }
    String path = System.getenv("PATH");
    Result result = shell.with("PATH", tools.toString()).tryScript("publish-release", "v0.1.0");
    assertThat(result).isEqualTo(new Result(1, "publish-release: gh is not on the path"));
    assertThat(shell.with("PATH", path).run("git", "ls-remote", "origin")).isEmpty();
  }

  @Test
  void publishesNothing_whenNothingWasBuilt() throws Exception {
    Result result = shell.tryScript("publish-release", "v0.1.0");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("run build-release first");
  }

  private Path archive(String entry) throws Exception {
    Path file = repository.resolve(entry);
    Files.createDirectories(file.getParent());
    Files.writeString(file, "program");
    shell.run("tar", "-czf", "hook.tar.gz", entry);
    return repository.resolve("hook.tar.gz");
  }

  private String calls() throws IOException {
    return Files.readString(repository.resolve("gh.log"));
  }

  /**
   * A remote, what build-release leaves, and a gh that notes its calls, knows a release and its files by them, and
   * fails once at the command that gh.fails names.
   */
  private void readyToPublish() throws IOException, InterruptedException {
    shell.run("git", "init", "-q", "--bare", "../origin.git");
    shell.run("git", "remote", "add", "origin", "../origin.git");
    Path out =
        Files.createDirectories(repository.resolve("target/release/repository")).getParent();
    Files.writeString(out.resolve("notes.md"), "notes");
    Files.writeString(out.resolve("central-bundle.zip"), "the bundle");
    Files.writeString(out.resolve("SHA256SUMS"), "sums");
    Files.writeString(out.resolve("evalops-agent-hook-v0.1.0-linux-arm64.tar.gz"), "hook");
    for (int i = 0; i < MANY; i++) {
      Files.writeString(out.resolve("repository/" + LONG + i + ".asc"), "signature");
    }
    shell.withProgram("gh", """
        if [ "$2" = view ]; then
          if ! grep -q "release create $3" gh.log 2>/dev/null; then
            echo 'release not found' >&2
            exit 1
          fi
          if grep -q "release edit $3 --draft=false" gh.log; then echo false; else echo true; fi
          grep "release upload $3" gh.log | tr ' ' '\\n' | sed -n 's:^target/release/::p'
          exit
        fi
        if [ "$2" = "$(cat gh.fails 2>/dev/null)" ]; then
          rm gh.fails
          exit 1
        fi
        echo "$@" >>gh.log""");
  }

  /** Takes uploads as the Publisher API of Central does. */
  private final class Central implements AutoCloseable {
    final List<String> uploads = new CopyOnWriteArrayList<>();
    private final HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);

    Central() throws IOException {
      server.createContext("/upload", exchange -> {
        String body = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
        uploads.add(exchange.getRequestURI().getQuery() + "\n"
            + exchange.getRequestHeaders().getFirst("Authorization") + "\n" + body);
        byte[] id = "28570f16-da32-4c14-bd2e-c1acc0782365".getBytes(UTF_8);
        exchange.sendResponseHeaders(201, id.length);
        exchange.getResponseBody().write(id);
        exchange.close();
      });
      server.start();
      shell
          .with(
              "CENTRAL_UPLOAD_URL", "http://127.0.0.1:" + server.getAddress().getPort() + "/upload")
          .with("CENTRAL_TOKEN", "c2VjcmV0");
    }

    @Override
    public void close() {
      server.stop(0);
    }
  }
}
