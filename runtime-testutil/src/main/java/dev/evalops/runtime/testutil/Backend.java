package dev.evalops.runtime.testutil;

/** What runs an own server. */
interface Backend extends AutoCloseable {
  /** Ends it as a crash would. */
  void kill();

  /** Starts it again after {@link #kill()}, on the same port and with the same files. */
  void restart();

  /** Stops it as it is: its connections stay, and nothing is answered. */
  void pause();

  /** Lets it go on after {@link #pause()}. */
  void resume();

  @Override
  void close();
}
