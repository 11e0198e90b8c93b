package dev.evalops.hook.service;

import dev.evalops.hook.ResidentCheck;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ScheduledThreadPoolExecutor;

/**
 * The command {@code serve}: answers the launchers of this machine on a socket that systemd or launchd has made, and
 * gives as standard input. So the socket lies in a folder of root, where no user can put another one.
 */
final class Serve {
  private static final String USAGE = "usage: evalops-agent-hook serve [--config <file>]";
  private static final String STATE = "STATE_DIRECTORY";

  private static final int MAX_CALLS = 256;

  /** So that one user leaves threads for the others; {@link ResidentCheck} does it for memory. */
  private static final int MAX_CALLS_OF_A_USER = 64;

  private final ResidentCheck check;
  private final ScheduledThreadPoolExecutor deadlines = new ScheduledThreadPoolExecutor(1, task -> {
    Thread thread = new Thread(task, "deadlines");
    thread.setDaemon(true);
    return thread;
  });
  private final Map<String, Integer> calls = new HashMap<>();

  private Serve(ResidentCheck check) {
    this.check = check;
    deadlines.setRemoveOnCancelPolicy(true);
  }

  /**
   * Runs until the socket is closed, which nobody does, or the process is ended.
   *
   * @param args the command's options
   */
  public static void main(String[] args) {
    try {
      new Serve(ResidentCheck.of(
              config(args),
              Path.of(System.getProperty("java.class.path", "")),
              state().resolve("tickets")))
          .accept(socket());
    } catch (IllegalArgumentException e) {
      System.err.println(e.getMessage());
    } catch (IOException | RuntimeException e) {
      System.err.println("evalops-agent-hook: serve failed: " + e);
    }
    System.exit(1);
  }

  private static Optional<Path> config(String[] args) {
    if (args.length == 2 && args[0].equals("--config")) {
      return Optional.of(Path.of(args[1]));
    }
    if (args.length > 0) {
      throw new IllegalArgumentException(USAGE);
    }
    return Optional.empty();
  }

  private static Path state() {
    String state = System.getenv(STATE);
    if (state == null || !state.startsWith("/")) {
      throw new IllegalArgumentException("evalops-agent-hook: " + STATE + " is no absolute path");
    }
    return Path.of(state);
  }

  private static ServerSocketChannel socket() throws IOException {
    if (System.inheritedChannel() instanceof ServerSocketChannel server
        && server.getLocalAddress() instanceof UnixDomainSocketAddress) {
      return server;
    }
    throw new IllegalArgumentException(
        "evalops-agent-hook: serve is started by systemd or launchd, with a Unix socket as its standard input");
  }

  private void accept(ServerSocketChannel server) throws IOException {
    while (server.isOpen()) {
      SocketChannel channel = server.accept();
      Conversation conversation = new Conversation(channel, check, deadlines);
      try {
        start(conversation, conversation.caller());
      } catch (IOException | RuntimeException | OutOfMemoryError e) {
        conversation.close(); // without an answer, which the launcher takes for a "no"
      }
    }
  }

  private void start(Conversation conversation, String caller) {
    if (!begin(caller)) {
      conversation.close();
      return;
    }
    Thread thread = new Thread(() -> {
      try (conversation) {
        conversation.run(caller);
      } finally {
        end(caller);
      }
    });
    thread.setDaemon(true);
    boolean started = false;
    try {
      thread.start();
      started = true;
    } finally {
      if (!started) {
        end(caller);
      }
    }
  }

  private synchronized boolean begin(String caller) {
    int all = calls.values().stream().mapToInt(Integer::intValue).sum();
    int own = calls.getOrDefault(caller, 0);
    if (all >= MAX_CALLS || own >= MAX_CALLS_OF_A_USER) {
      return false;
    }
    calls.put(caller, own + 1);
    return true;
  }

  private synchronized void end(String caller) {
    calls.computeIfPresent(caller, (user, own) -> own == 1 ? null : own - 1);
  }
}
