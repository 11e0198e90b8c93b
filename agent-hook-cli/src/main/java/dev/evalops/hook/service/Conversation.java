package dev.evalops.hook.service;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.evalops.hook.ResidentCheck;
import dev.evalops.hook.Verdict;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jdk.net.ExtendedSocketOptions;

/**
 * One call of a launcher: {@code evalops-agent-hook 1 <nonce>}, a line feed, the event and the end of the stream; then
 * {@code allow <nonce>} or {@code deny <nonce>}, a line feed, and behind a "no" two lines more, the reason and what the
 * host takes for a "no". Whoever gets anything else has got no answer.
 */
final class Conversation implements AutoCloseable {
  private static final Pattern GREETING = Pattern.compile("evalops-agent-hook 1 ([0-9a-f]{32})");
  private static final int MAX_GREETING = 64;

  /** Behind every deadline that can be configured, and before that of the launcher. */
  private static final long ANSWER_SECONDS = 580;

  private final SocketChannel channel;
  private final ResidentCheck check;
  private final ScheduledExecutorService deadlines;

  Conversation(SocketChannel channel, ResidentCheck check, ScheduledExecutorService deadlines) {
    this.channel = channel;
    this.check = check;
    this.deadlines = deadlines;
  }

  /** The user at the other end, by the word of the system. */
  String caller() throws IOException {
    return channel.getOption(ExtendedSocketOptions.SO_PEERCRED).user().getName();
  }

  void run(String caller) {
    ScheduledFuture<?> end = deadlines.schedule(this::close, ANSWER_SECONDS, TimeUnit.SECONDS);
    try {
      InputStream in = Channels.newInputStream(channel);
      String nonce = nonce(in);
      Verdict verdict = check.check(in, caller);
      ByteBuffer answer = UTF_8.encode(
          verdict.isAllowed()
              ? "allow " + nonce + "\n"
              : "deny " + nonce + "\n" + verdict.reason() + "\n" + verdict.hostLine());
      while (answer.hasRemaining()) {
        channel.write(answer);
      }
    } catch (IOException e) {
      // The launcher has gone, or was too slow; it denies without an answer.
    } catch (Throwable e) {
      // One call that fails, even for want of memory, is not the end of the others.
      System.err.println("evalops-agent-hook: a call failed: " + e.getClass().getSimpleName());
    } finally {
      end.cancel(false);
    }
  }

  private static String nonce(InputStream in) throws IOException {
    StringBuilder line = new StringBuilder();
    for (int c = in.read(); c != '\n'; c = in.read()) {
      if (c < 0 || line.length() == MAX_GREETING) {
        throw new IOException("no greeting");
      }
      line.append((char) c);
    }
    Matcher greeting = GREETING.matcher(line);
    if (!greeting.matches()) {
      throw new IOException("no greeting");
    }
    return greeting.group(1);
  }

  @Override
  public void close() {
    try {
      channel.close();
    } catch (IOException e) {
      // It is given up anyhow.
    }
  }
}
