package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Distribution.Shell;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the doctor says of the settings of all users. */
class ManagedDoctorTest {
  @TempDir
  private Path work;

  private Distribution hook;
  private Host.Places places;
  private Path settings;
  private Path properties;

  @BeforeEach
  void install() throws Exception {
    work = work.toRealPath();
    Distribution.mode("rwxr-xr-x", work);
    hook = Distribution.create(work, Shell.DASH);
    Path root = Files.createDirectory(work.resolve("root"));
    Distribution.mode("rwxr-xr-x", root);
    places = new Host.Places(root, work.resolve("home"), Map.of("PATH", "/none"), false);
    properties = Files.writeString(work.resolve("hook.properties"), """
        EVALOPS_GOVERNANCE_URL=http://127.0.0.1:9
        EVALOPS_WORKSPACE_ID=w
        EVALOPS_IGNORE_ENVIRONMENT=true
        """);
    Distribution.mode("rw-r--r--", properties);
    hook.configure("java=/none/bin/java\nconfig=" + properties + "\n");
    settings = Host.CLAUDE.file(true, places);
    SettingsFile.read(settings)
        .replace(
            JsonSettings.claude(true, false)
                .install("", Host.CLAUDE.command(new Installation(hook.home()))),
            "rw-r--r--");
  }

  private List<String> findings() {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    new Doctor(
            new Installation(hook.home()),
            places,
            new PrintStream(out, true, StandardCharsets.UTF_8))
        .run(List.of(), System.err);
    return out.toString(StandardCharsets.UTF_8).lines().toList();
  }

  /** The findings about the host. */
  private List<String> wrong() {
    return findings().stream()
        .filter(line -> line.startsWith("WRONG Claude Code"))
        // Of a build that is not root's.
        .filter(line -> !line.contains("chown") && !line.contains("others than root"))
        .toList();
  }

  private void assertFinds(String... findings) {
    List<String> wrong = wrong();
    assertThat(wrong).hasSameSizeAs(findings);
    for (int i = 0; i < findings.length; i++) {
      assertThat(wrong.get(i)).contains(findings[i]);
    }
  }

  private Path dropIn(String name, String text) throws Exception {
    Path folder = Files.createDirectories(settings.resolveSibling("managed-settings.d"));
    Path file = Files.writeString(folder.resolve(name), text);
    Distribution.mode("rwxr-xr-x", folder);
    Distribution.mode("rw-r--r--", file);
    return file;
  }

  @Test
  void findsNothing_whenAllIsWell() throws Exception {
    assertFinds();
    dropIn("10.json", "{\"model\":\"opus\"}");
    dropIn(".hidden.json", "{\"disableAllHooks\":true}");
    dropIn("note.txt", "{\"disableAllHooks\":true}");
    assertFinds();
  }

  @Test
  void looksAfterTheService() throws Exception {
    Path socket = work.resolve("socket");
    hook.configure("java=/none/bin/java\nconfig=" + properties + "\nservice=" + socket + "\n");
    assertThat(findings())
        .filteredOn(line -> line.contains("the service:"))
        .satisfiesExactly(
            line -> assertThat(line).startsWith("WRONG the service: nobody listens at " + socket),
            line -> assertThat(line)
                .startsWith("WRONG the service: every user can read " + properties));

    Distribution.mode("rw-r-----", properties);
    try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      server.bind(UnixDomainSocketAddress.of(socket));
      assertThat(findings())
          .filteredOn(line -> line.contains("the service"))
          .contains("ok    the service listens at " + socket)
          .noneMatch(line -> line.startsWith("WRONG the service:"));
    }
  }

  @Test
  void findsADropInThatSwitchesTheHookOff_isBrokenOrCannotBeRead() throws Exception {
    dropIn("50.json", "{\"disableAllHooks\":true}");
    assertFinds("disableAllHooks is true");
    dropIn("60.json", "{\"disableAllHooks\":false}");
    assertFinds();
    dropIn("50.json", "{\"disableAllHooks\":");
    assertFinds("cannot be judged");
    Distribution.mode("rw-------", dropIn("50.json", "{}"));
    assertFinds("not every user can read " + settings.resolveSibling("managed-settings.d/50.json"));
  }

  @Test
  void findsWhatSomeUsersCannotRead() throws Exception {
    for (Path part :
        List.of(settings, settings.getParent(), settings.getParent().getParent())) {
      Distribution.mode("rwx------", part);
      assertFinds("not every user can read " + part + ": chmod a+r");
      Distribution.mode(Files.isDirectory(part) ? "rwxr-xr-x" : "rw-r--r--", part);
    }
    for (Path part : List.of(hook.jar(), hook.lib(), hook.home())) {
      Distribution.mode("rwx------", part);
      assertThat(wrong())
          .isNotEmpty()
          .allMatch(line -> line.contains("not every user can read " + part));
      Distribution.mode(Files.isDirectory(part) ? "rwxr-xr-x" : "rw-r--r--", part);
    }
    Distribution.mode("rwxr-xr--", hook.launcher());
    assertFinds("not every user can run " + hook.launcher());
  }

  @Test
  void findsAManagedEntry_whoseConfigurationTheEnvironmentDecides() throws Exception {
    Files.writeString(properties, "EVALOPS_WORKSPACE_ID=w\n");
    assertFinds("EVALOPS_GOVERNANCE_URL is required; write it into " + properties);
    Files.delete(properties);
    assertFinds(properties + " does not exist");
  }

  @Test
  void findsWhatTheEnvironmentStillDecides() throws Exception {
    String text = Files.readString(properties);
    Files.writeString(properties, text.replace("EVALOPS_IGNORE_ENVIRONMENT=true", ""));
    assertFinds("EVALOPS_IGNORE_ENVIRONMENT=true");
    // The service goes by the file alone.
    hook.configure(Files.readString(hook.conf()) + "service=/none/socket\n");
    assertFinds();
  }

  @Test
  void findsAFolderFromWhichOthersCanTakeTheConfigurationAway() throws Exception {
    Path folder = Files.createDirectory(work.resolve("configuration"));
    Distribution.mode("rwxr-xr-x", folder);
    Path moved = Files.move(properties, folder.resolve("hook.properties"));
    hook.configure("java=/none/bin/java\nconfig=" + moved + "\n");
    assertThat(findings()).noneMatch(line -> line.contains(folder + " can be changed"));
    Distribution.mode("rwxrwxrwx", folder);
    assertThat(findings())
        .anyMatch(line -> line.startsWith("WRONG Claude Code")
            && line.contains(folder + " can be changed by others than root"));
  }

  @Test
  void findsALinkToTheConfigurationThatOthersCanChange() throws Exception {
    Path folder = Files.createDirectory(work.resolve("links"));
    Distribution.mode("rwxrwxrwx", folder);
    Path link = Files.createSymbolicLink(folder.resolve("hook.properties"), properties);
    hook.configure("java=/none/bin/java\nconfig=" + link + "\n");
    assertThat(findings())
        .anyMatch(line -> line.startsWith("WRONG Claude Code")
            && line.contains(folder + " can be changed by others than root"));
  }
}
