package dev.evalops.hook.install;

import java.util.List;

/** The hook's own file among the policies of Copilot CLI, which neither a user nor a repository can switch off. */
final class CopilotPolicy implements HostSettings {
  private static String written(String command) {
    return """
        {
          "version": 1,
          "hooks": {
            "PreToolUse": [
              {
                "type": "command",
                "bash": %s,
                "timeoutSec": 600
              }
            ]
          }
        }
        """.formatted(JsonDocument.quote(command));
  }

  @Override
  public String install(String text, String command) throws NotUnderstoodException {
    if (!text.isBlank() && !text.contains(NAME)) {
      throw new NotUnderstoodException("it is not ours");
    }
    return written(command);
  }

  @Override
  public String uninstall(String text) throws NotUnderstoodException {
    if (!text.isBlank() && !text.contains(NAME)) {
      throw new NotUnderstoodException("it is not ours");
    }
    return "";
  }

  @Override
  public List<String> problems(String text, List<String> dropIns, String command) {
    return text.equals(written(command)) ? List.of() : List.of("it is not as it was written");
  }
}
