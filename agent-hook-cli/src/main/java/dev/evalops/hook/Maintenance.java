package dev.evalops.hook;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** The commands that no tool call waits for. */
final class Maintenance {
  private Maintenance() {}

  /**
   * Runs a command and ends the process with its status.
   *
   * @return false if it is none of these
   */
  static boolean run(String[] args) {
    List<String> arguments = List.of(args).subList(1, args.length);
    switch (args[0]) {
      case "install" -> System.exit(Install.run(arguments, System.out, System.err));
      case "doctor" -> System.exit(Doctor.run(arguments, System.out, System.err));
      case "prepare" -> System.exit(prepare(arguments));
      default -> {
        return false;
      }
    }
    return true;
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
