package dev.evalops.hook.install;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * The commands that no tool call waits for. The launcher starts them here, and {@code governance-check} at its own
 * class.
 */
final class Maintenance {
  private static final String USAGE =
      "usage: evalops-agent-hook governance-check | serve | install | uninstall | doctor";

  private Maintenance() {}

  /**
   * Runs a command and ends the process with its status.
   *
   * @param args the command and its options
   */
  public static void main(String[] args) {
    List<String> arguments = List.of(args).subList(Math.min(1, args.length), args.length);
    System.exit(
        switch (args.length == 0 ? "" : args[0]) {
          case "install", "uninstall" -> Install.run(args[0], arguments, System.out, System.err);
          case "doctor" -> Doctor.run(arguments, System.out, System.err);
          case "prepare" -> prepare(arguments);
          default -> {
            System.err.println(USAGE);
            yield 2;
          }
        });
  }

  /** Makes the start-up cache; called by the launcher alone. */
  private static int prepare(List<String> arguments) {
    try {
      StartupCache.of(Path.of(arguments.get(0))).make();
      return 0;
    } catch (IOException | RuntimeException e) {
      System.err.println("evalops-agent-hook: no start-up cache: " + e);
      return 1;
    }
  }
}
