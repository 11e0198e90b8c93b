package dev.evalops.runtime.testutil;

/** What runs an own server. */
interface Backend extends AutoCloseable {
  /** Ends it as a crash would. */
  void kill();

  /** Starts it again after {@link #kill()}, on the same port and with the same files. */
  void restart();

  @Override
  void close();
}
