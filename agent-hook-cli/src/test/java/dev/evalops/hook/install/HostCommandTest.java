package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Distribution.Shell;
import dev.evalops.hook.Launched;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;

/** What hosts give to the user's shell: it must end with 0 or 2, and say why, whatever becomes of the launcher. */
@ParameterizedClass
@EnumSource(Shell.class)
class HostCommandTest {
  private static final String DID_NOT_RUN =
      "evalops-agent-hook: blocked (fail closed): the launcher did not run\n";

  @Parameter
  private Shell shell;

  @TempDir
  private Path work;

  private Distribution hook;

  @BeforeEach
  void install() throws Exception {
    hook = new Distribution(work.resolve("a b"));
    Files.move(Distribution.create(work, shell).home(), hook.home());
  }

  private Launched.Result call() throws Exception {
    return call(Host.CODEX);
  }

  private Launched.Result call(Host host) throws Exception {
    String command = host.command(new Installation(hook.home()));
    try (Launched started =
        Launched.start(work, Map.of(), shell.sh(work).toString(), "-c", command)) {
      return started.write(Launched.EVENT).end();
    }
  }

  @Test
  void handsOnWhatTheLauncherSays() throws Exception {
    hook.fakeJava("17.0.1", "[ \"$(cat)\" = '" + Launched.EVENT + "' ] && exit 42");
    Launched.Result allowed = call();
    allowed.assertAllowed();
    assertThat(allowed.err()).isEmpty();
    hook.fakeJava("17.0.1", "cat >/dev/null; echo 'the reason' >&2; exit 44");
    Launched.Result denied = call();
    denied.assertDenied();
    assertThat(denied.err()).isEqualTo("the reason\n");
  }

  @Test
  void denies_whenTheLauncherCannotRunOrIsKilled() throws Exception {
    hook.fakeJava("17.0.1", "kill -9 $PPID; exit 42");
    Launched.Result killed = call();
    killed.assertDenied();
    assertThat(killed.err()).endsWith(DID_NOT_RUN);
    hook.edit(text -> text.replaceFirst("(?s)\n.*", "\nexit 1\n"));
    assertThat(call()).isEqualTo(new Launched.Result(2, "", DID_NOT_RUN));
    Distribution.mode("rw-r--r--", hook.launcher());
    call().assertDenied(DID_NOT_RUN);
    Files.delete(hook.launcher());
    call().assertDenied(DID_NOT_RUN);
  }

  @Test
  void tellsCursorInItsOwnWords() throws Exception {
    hook.fakeJava("17.0.1", "[ \"$(cat)\" = '" + Launched.EVENT + "' ] && exit 42");
    assertThat(call(Host.CURSOR))
        .isEqualTo(new Launched.Result(0, "{\"permission\":\"allow\"}\n", ""));

    String reason = "\"no: \\\"a\\\" 100% $HOME `x` c:\\\\n \u00e9}}\"";
    Path line = Files.writeString(
        work.resolve("line"),
        "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"deny\","
            + "\"permissionDecisionReason\":" + reason + "}}\n");
    hook.fakeJava(
        "17.0.1", "cat >/dev/null; /bin/cat '" + line + "'; echo 'the reason' >&2; exit 44");
    assertThat(call(Host.CURSOR)).isEqualTo(new Launched.Result(2, denied(reason), "the reason\n"));

    hook.fakeJava("17.0.1", "cat >/dev/null; echo 'yes'; exit 42");
    assertThat(call(Host.CURSOR).status()).isEqualTo(2);

    hook.fakeJava("17.0.1", "kill -9 $PPID; exit 42");
    Launched.Result killed = call(Host.CURSOR);
    assertThat(killed.err()).endsWith(DID_NOT_RUN);
    assertThat(killed.status()).isEqualTo(2);
    Files.delete(hook.launcher());
    Launched.Result missing = call(Host.CURSOR);
    assertThat(missing.status()).isEqualTo(2);
    assertThat(missing.out()).isEqualTo(denied("\"blocked\""));
    assertThat(missing.err()).endsWith(DID_NOT_RUN);
  }

  private static String denied(String reason) {
    return "{\"permission\":\"deny\",\"user_message\":" + reason + ",\"agent_message\":" + reason
        + "}\n";
  }
}
