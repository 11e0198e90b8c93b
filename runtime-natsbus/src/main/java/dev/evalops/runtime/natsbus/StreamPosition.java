package dev.evalops.runtime.natsbus;

import java.time.ZonedDateTime;

/**
 * Where a durable was in its stream when it was last looked at, so that one that somebody has deleted can be made again
 * without a gap. Immutable.
 *
 * <p>What counts is up to where all is acknowledged, and not the last event that this process has seen: there may be
 * earlier ones in the hands of other processes, or waiting to be delivered again. What this process has finished since
 * comes again, and is known.
 *
 * @param streamCreated tells the stream from one that was recreated
 * @param acknowledged the sequence up to which all is acknowledged
 */
record StreamPosition(ZonedDateTime streamCreated, long acknowledged) {
  /** Whether a stream, as it is now, is the one of before; sequences never go back. */
  boolean isOf(ZonedDateTime created, long lastSequence) {
    return streamCreated.equals(created) && lastSequence >= acknowledged;
  }

  StreamPosition at(long floor) {
    return new StreamPosition(streamCreated, Math.max(acknowledged, floor));
  }

  long next() {
    return acknowledged + 1;
  }
}
