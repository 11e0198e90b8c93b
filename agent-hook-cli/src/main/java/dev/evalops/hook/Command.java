package dev.evalops.hook;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * {@code governance-check} and its options.
 *
 * @param allowStatus the exit status for "yes"
 * @param denyStatus the exit status for a "no" whose reason has been written
 * @param config the managed file that the installation names; null for the one at the usual place
 */
record Command(int allowStatus, int denyStatus, @Nullable Path config) {
  static final String USAGE =
      "usage: evalops-agent-hook governance-check [--allow-exit-code <4-125>] [--deny-exit-code "
          + "<4-125>] [--config <file>]";

  private static final int MIN_STATUS =
      4; // those below come from Java itself, or mean something to a host
  private static final int MAX_STATUS = 125; // those above come from shells and signals

  /** Reads the command line; null if it is not understood. */
  static @Nullable Command parse(String[] args) {
    if (args.length % 2 == 0 || !args[0].equals("governance-check")) {
      return null;
    }
    int allow = 0;
    int deny = 0;
    Path config = null;
    for (int i = 1; i < args.length; i += 2) {
      String value = args[i + 1];
      if (args[i].equals("--allow-exit-code") && allow == 0 && status(value) != 0) {
        allow = status(value);
      } else if (args[i].equals("--deny-exit-code") && deny == 0 && status(value) != 0) {
        deny = status(value);
      } else if (args[i].equals("--config") && config == null && !value.isEmpty()) {
        try {
          config = Path.of(value);
        } catch (InvalidPathException e) {
          return null;
        }
      } else {
        return null;
      }
    }
    if (allow == deny && allow != 0) {
      return null;
    }
    return new Command(allow, deny == 0 ? HookProcess.DENY : deny, config);
  }

  private static int status(String text) {
    try {
      int status = Integer.parseInt(text);
      return status < MIN_STATUS || status > MAX_STATUS ? 0 : status;
    } catch (NumberFormatException e) {
      return 0;
    }
  }

  /** The managed file; one that the installation names may belong to the owner of the program as well. */
  ManagedFile managedFile(Path program) {
    return config == null ? ManagedFile.usual() : ManagedFile.named(config, program);
  }
}
