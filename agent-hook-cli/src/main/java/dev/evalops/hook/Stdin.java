package dev.evalops.hook;

import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * What the host writes to us. It is always read to its end: some hosts lose our answer, and let the tool run, when they
 * cannot get rid of theirs.
 */
final class Stdin {
  static final int LIMIT = 8 * 1024 * 1024;
  private static final int START = 32 * 1024;

  private final InputStream in;
  private final EventBudget.@Nullable Share share;
  private final byte[] spare = new byte[8192]; // there also when memory has run out
  private byte[] bytes = new byte[0];
  private int length;
  private boolean ended;

  Stdin(InputStream in) {
    this(in, null);
  }

  /**
   * For a process that has several events at once.
   *
   * @param share what is longer than {@link #START} takes its memory from; null in a process with a single event
   */
  Stdin(InputStream in, EventBudget.@Nullable Share share) {
    this.in = in;
    this.share = share;
  }

  /** Reads everything. */
  void read() throws Denial {
    byte[] read = new byte[START];
    int count = 0;
    try {
      while (true) {
        if (count == read.length) {
          if (count > LIMIT) {
            break;
          }
          int size = Math.min(count * 2, LIMIT + 1);
          if (share != null) {
            share.take(size - count);
          }
          read = Arrays.copyOf(read, size);
        }
        int more = in.read(read, count, read.length - count);
        if (more < 0) {
          ended = true;
          break;
        }
        count += more;
      }
    } catch (IOException e) {
      ended = true;
      throw Denial.failClosed("read_stdin: the input cannot be read");
    }
    if (count > LIMIT) {
      throw Denial.failClosed("read_stdin: the input is longer than " + LIMIT + " bytes");
    }
    bytes = read;
    length = count;
  }

  /** Reads what is left and throws it away. */
  void drain() {
    try {
      while (!ended) {
        ended = in.read(spare) < 0;
      }
    } catch (IOException e) {
      ended = true;
    }
  }

  byte[] bytes() {
    return bytes;
  }

  int length() {
    return length;
  }
}
