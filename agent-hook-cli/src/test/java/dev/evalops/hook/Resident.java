package dev.evalops.hook;

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** The service as systemd starts it: with a listening socket as its standard input. */
public final class Resident implements AutoCloseable {
  /** The socket gets its name only when it listens: who sees the file can connect. */
  private static final String LISTEN =
      "umask 0; socket(S, 1, 1, 0); $at = shift; bind(S, pack('Sa*', 1, \"$at~\")) or die $!; "
          + "listen(S, 128) or die $!; rename(\"$at~\", $at) or die $!; open(STDIN, '<&S'); ";

  private static final String RUN = "close S; exec @ARGV";

  /** Keeps the socket open, and starts the service again when it has ended. */
  private static final String SUPERVISE =
      "for (;;) { my $pid = fork; defined $pid or die $!; exec @ARGV or exit 1 unless $pid; "
          + "waitpid $pid, 0; select undef, undef, undef, 0.1 }";

  private final Process process;

  private Resident(Process process) {
    this.process = process;
  }

  /**
   * Starts it.
   *
   * @param as what runs it as another user
   */
  public static Resident start(Distribution hook, Path socket, Path state, String... as)
      throws IOException {
    return start(RUN, hook, socket, state, as);
  }

  /** Starts it under somebody who starts it again when it has ended. */
  static Resident supervised(Distribution hook, Path socket, Path state) throws IOException {
    return start(SUPERVISE, hook, socket, state);
  }

  private static Resident start(
      String script, Distribution hook, Path socket, Path state, String... as) throws IOException {
    Files.deleteIfExists(socket);
    List<String> command =
        new ArrayList<>(List.of("/usr/bin/perl", "-e", LISTEN + script, socket.toString()));
    command.addAll(List.of(as));
    command.addAll(List.of(hook.launcher().toString(), "serve"));
    ProcessBuilder builder = new ProcessBuilder(command)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .redirectError(ProcessBuilder.Redirect.INHERIT);
    builder.environment().clear();
    builder.environment().put("PATH", "/usr/bin:/bin");
    builder.environment().put("STATE_DIRECTORY", state.toString());
    return new Resident(builder.start());
  }

  public Process process() {
    return process;
  }

  @Override
  public void close() throws InterruptedException {
    List<ProcessHandle> services = process.descendants().toList();
    process.destroyForcibly().waitFor();
    services.forEach(ProcessHandle::destroyForcibly);
  }

  /** What somebody who has got hold of the socket might say. */
  interface Lie {
    String to(String nonce) throws InterruptedException;
  }

  /** A server that is not the service. */
  static final class Liar implements AutoCloseable {
    private final ServerSocketChannel server;
    private final Lie lie;
    final List<String> requests = new CopyOnWriteArrayList<>();

    Liar(Path socket, Lie lie) throws IOException {
      Files.deleteIfExists(socket);
      this.lie = lie;
      server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
      server.bind(UnixDomainSocketAddress.of(socket));
      Thread thread = new Thread(this::serve);
      thread.setDaemon(true);
      thread.start();
    }

    private void serve() {
      while (server.isOpen()) {
        try (SocketChannel channel = server.accept()) {
          String request =
              new String(Channels.newInputStream(channel).readAllBytes(), StandardCharsets.UTF_8);
          requests.add(request);
          String nonce = request.substring(0, request.indexOf('\n')).replaceAll(".* ", "");
          channel.write(ByteBuffer.wrap(lie.to(nonce).getBytes(StandardCharsets.UTF_8)));
        } catch (IOException | InterruptedException e) {
          // The next one.
        }
      }
    }

    @Override
    public void close() throws IOException {
      server.close();
    }
  }
}
