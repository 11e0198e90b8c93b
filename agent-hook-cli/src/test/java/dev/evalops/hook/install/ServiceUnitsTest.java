package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Distribution.Shell;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.NodeList;

class ServiceUnitsTest {
  @TempDir
  private Path work;

  private Distribution hook;
  private Path root;
  private String out;
  private String err;

  @BeforeEach
  void unpack() throws Exception {
    work = work.toRealPath();
    Distribution.mode("rwxr-xr-x", work);
    hook = Distribution.create(work, Shell.DASH);
    hook.configure("java=/none/bin/java\n");
    root = Files.createDirectory(work.resolve("root"));
  }

  private int run(String... arguments) {
    ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
    ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
    Host.Places places = new Host.Places(root, work.resolve("home"), Map.of(), false);
    int status = new Install(
            new Installation(hook.home()),
            places,
            new PrintStream(outBytes, true, StandardCharsets.UTF_8))
        .run(
            arguments[0],
            List.of(arguments).subList(1, arguments.length),
            new PrintStream(errBytes, true, StandardCharsets.UTF_8));
    out = outBytes.toString(StandardCharsets.UTF_8);
    err = errBytes.toString(StandardCharsets.UTF_8);
    return status;
  }

  private Path socketUnit() {
    return root.resolve("etc/systemd/system/evalops-agent-hook.socket");
  }

  @Test
  void writesTheUnits_andTellsTheLauncher() throws Exception {
    if (!Installation.isRoot(hook.home())) {
      // The service of one who is not root would be a program of the agent's own user.
      assertThat(run("install", "--service")).isEqualTo(1);
      assertThat(err).contains("does not belong to root");
      assertThat(root).isEmptyDirectory();
      return;
    }
    assertThat(run("install", "--service", "--dry-run")).isZero();
    assertThat(root).isEmptyDirectory();
    assertThat(hook.conf()).hasContent("java=/none/bin/java");

    assertThat(run("install", "--service")).as(err).isZero();
    assertThat(socketUnit())
        .content()
        .contains("ListenStream=/run/evalops-agent-hook/socket\n", "DirectoryMode=0755\n");
    assertThat(socketUnit().resolveSibling("evalops-agent-hook.service"))
        .content()
        .contains(
            "ExecStart=" + hook.launcher() + " serve\n",
            "User=evalops-hook\n",
            "StandardInput=socket\n");
    assertThat(root.resolve("etc/sysusers.d/evalops-agent-hook.conf"))
        .content()
        .startsWith("u evalops-hook ");
    assertThat(hook.conf())
        .hasContent("java=/none/bin/java\nservice=/run/evalops-agent-hook/socket");
    assertThat(out).contains("systemctl enable --now evalops-agent-hook.socket", "chmod 640");

    assertThat(run("install", "--service")).isZero();
    assertThat(out).contains(socketUnit() + " is as it should be", "names the service already");
    assertThat(out).contains("chmod 640 /etc/evalops/agent-hook.properties\n");
    Files.writeString(hook.conf(), Files.readString(hook.conf()) + "config=/srv/hook.properties\n");
    assertThat(run("install", "--service")).isZero();
    assertThat(out).contains("chmod 640 /srv/hook.properties\n").doesNotContain("/etc/evalops/");
    hook.configure("java=/none/bin/java\nservice=/run/evalops-agent-hook/socket\n");

    assertThat(run("uninstall", "--service")).isZero();
    assertThat(socketUnit()).doesNotExist();
    assertThat(hook.conf()).hasContent("java=/none/bin/java");
    assertThat(out).contains("systemctl disable --now");
  }

  @Test
  void refusesWhatOthersCanChange() throws Exception {
    Distribution.mode("rwxrwxrwx", hook.lib());
    assertThat(run("install", "--service")).isEqualTo(1);
    assertThat(err).contains(hook.lib() + " can be changed by others");
    assertThat(root).isEmptyDirectory();
  }

  @Test
  void knowsWhatItIsTold() {
    for (List<String> arguments : List.of(
        List.of("install"),
        List.of("install", "--service", "--host", "claude"),
        List.of("install", "--service", "--managed"))) {
      assertThat(run(arguments.toArray(String[]::new))).isEqualTo(2);
      assertThat(err).startsWith("usage: evalops-agent-hook install --host claude|codex");
    }
  }

  @Test
  void writesAPlistThatIsXml() throws Exception {
    String plist = new ServiceUnits(Path.of("/opt/evalops"), true)
        .files(root)
        .get(root.resolve("Library/LaunchDaemons/dev.evalops.agent-hook.plist"));
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
    factory.setFeature("http://apache.org/xml/features/nonvalidating/load-external-dtd", false);
    NodeList strings = factory
        .newDocumentBuilder()
        .parse(new ByteArrayInputStream(plist.getBytes(StandardCharsets.UTF_8)))
        .getElementsByTagName("string");
    assertThat(strings.getLength()).isEqualTo(7);
    assertThat(strings.item(5).getTextContent()).isEqualTo("/var/db/evalops-agent-hook/error.log");
    assertThat(strings.item(6).getTextContent()).isEqualTo("/var/db/evalops-agent-hook-run/socket");
  }

  @Test
  void keepsTheSocket_whenAnUpgradeReplacesTheHooksFolder() {
    for (boolean mac : new boolean[] {false, true}) {
      ServiceUnits units = new ServiceUnits(Path.of("/opt/evalops"), mac);
      assertThat(units.socket().startsWith(units.home())).isFalse();
      assertThat(units.socket().getParent().getParent()).isIn(Path.of("/run"), Path.of("/var/db"));
    }
  }

  @Test
  void refusesAPathThatNoUnitCanName() {
    assertThatThrownBy(() -> new ServiceUnits(Path.of("/opt/eval ops"), false).files(root))
        .isInstanceOf(NotUnderstoodException.class);
  }
}
