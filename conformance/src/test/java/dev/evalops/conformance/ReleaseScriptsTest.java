package dev.evalops.conformance;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpServer;
import dev.evalops.conformance.Shell.Result;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The scripts that decide and publish a release, in repositories made for it. */
class ReleaseScriptsTest {
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
  void publishesTagReleaseAndBundle_andNothingMoreTheSecondTime() throws Exception {
    readyToPublish();
    CompletableFuture<String> upload = new CompletableFuture<>();
    HttpServer central =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    central.createContext("/upload", exchange -> {
      String body = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
      upload.complete(exchange.getRequestURI().getQuery() + "\n"
          + exchange.getRequestHeaders().getFirst("Authorization") + "\n" + body);
      exchange.sendResponseHeaders(201, -1);
      exchange.close();
    });
    central.start();
    try {
      shell
          .with(
              "CENTRAL_UPLOAD_URL",
              "http://127.0.0.1:" + central.getAddress().getPort() + "/upload")
          .with("CENTRAL_TOKEN", "c2VjcmV0");
      assertThat(shell.script("publish-release", "v0.1.0"))
          .contains("v0.1.0 is at Central")
          .doesNotContain("c2VjcmV0");
      assertThat(upload.get(10, TimeUnit.SECONDS))
          .contains("publishingType=AUTOMATIC", "Bearer c2VjcmV0", "the bundle");
      assertThat(Files.readString(repository.resolve("gh.log")))
          .contains(
              "release create v0.1.0 --verify-tag", "v0.1.0-linux-arm64.tar.gz", "SHA256SUMS");
      assertThat(shell.run("git", "ls-remote", "origin")).contains("refs/tags/v0.1.0");

      assertThat(shell.script("publish-release", "v0.1.0")).contains("already released");
    } finally {
      central.stop(0);
    }
  }

  @Test
  void publishesToGitHubAlone_withoutAnAccountAtCentral() throws Exception {
    readyToPublish();
    assertThat(shell.script("publish-release", "v0.1.0")).contains("not published to Central");
    assertThat(Files.readString(repository.resolve("gh.log"))).contains("release create v0.1.0");
  }

  @Test
  void publishesNothingUnsignedToCentral() throws Exception {
    readyToPublish();
    Files.delete(repository.resolve("target/release/repository/a.jar.asc"));
    shell.with("CENTRAL_UPLOAD_URL", "http://127.0.0.1:1/").with("CENTRAL_TOKEN", "c2VjcmV0");
    Result result = shell.tryScript("publish-release", "v0.1.0");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("signed jars only");
    assertThat(repository.resolve("gh.log")).doesNotExist();
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

  /** A remote, what build-release leaves, and a gh that notes its calls and knows a release after it was made. */
  private void readyToPublish() throws IOException, InterruptedException {
    shell.run("git", "init", "-q", "--bare", "../origin.git");
    shell.run("git", "remote", "add", "origin", "../origin.git");
    Path out =
        Files.createDirectories(repository.resolve("target/release/repository")).getParent();
    Files.writeString(out.resolve("notes.md"), "notes");
    Files.writeString(out.resolve("central-bundle.zip"), "the bundle");
    Files.writeString(out.resolve("SHA256SUMS"), "sums");
    Files.writeString(out.resolve("evalops-agent-hook-v0.1.0-linux-arm64.tar.gz"), "hook");
    Files.writeString(out.resolve("repository/a.jar.asc"), "signature");
    shell.withProgram("gh", """
        if [ "$2" = view ]; then grep -q "release create $3" gh.log 2>/dev/null; exit; fi
        echo "$@" >>gh.log""");
  }
}
