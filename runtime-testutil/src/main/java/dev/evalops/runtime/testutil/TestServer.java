package dev.evalops.runtime.testutil;

import java.net.URI;
import java.util.Optional;

/** What the three servers have in common. */
abstract class TestServer implements AutoCloseable {
  private final URI uri;
  private final Optional<Backend> own;

  TestServer(URI uri, Optional<Backend> own) {
    this.uri = uri;
    this.own = own;
  }

  static void checkPort(int port) {
    if (port < 1 || port > 65_535) {
      throw new IllegalArgumentException("port must be from 1 to 65535: " + port);
    }
  }

  /**
   * Where the server is, in the form that a service has in its environment.
   *
   * @return the URL, with user and password where there are any
   */
  public String url() {
    return uri.toString();
  }

  /**
   * The same as {@code url()}, for clients that want a {@link URI}.
   *
   * @return the URL
   */
  public URI uri() {
    return uri;
  }

  /**
   * The port on which the server listens.
   *
   * @return the port; -1 when the environment names a server without one
   */
  public int port() {
    return uri.getPort();
  }

  /**
   * Ends the server as a crash would ({@code SIGKILL}) and returns when it is gone: its connections are cut and its
   * port is free. Nothing happens when it is not running.
   *
   * @throws IllegalStateException for the shared server, on which other tests rely
   */
  public void kill() {
    own().kill();
  }

  /**
   * Starts the server again after {@code kill()}, on the same port and with what it had on disk, and waits until it is
   * ready.
   *
   * @throws IllegalStateException when it is running or closed, when its port was taken meanwhile, when it does not
   *     become ready, or for the shared server
   */
  public void restart() {
    own().restart();
  }

  /**
   * Stops the server as it is ({@code SIGSTOP}): its connections stay, new ones are taken by the system, and nothing is
   * answered until {@link #resume()}.
   *
   * @throws IllegalStateException when it is not running, or for the shared server
   */
  public void pause() {
    own().pause();
  }

  /**
   * Lets the server go on after {@link #pause()} ({@code SIGCONT}). Nothing happens when it is not paused.
   *
   * @throws IllegalStateException for the shared server
   */
  public void resume() {
    own().resume();
  }

  private Backend own() {
    return own.orElseThrow(
        () -> new IllegalStateException(
            "the shared server is not yours to stop, other tests use it; take one of your own with start()"));
  }

  /** Stops an own server at once and deletes its files; safe to call twice. The shared server stays as it is. */
  @Override
  public void close() {
    own.ifPresent(Backend::close);
  }

  /** Names the server without user and password. */
  @Override
  public String toString() {
    return getClass().getSimpleName() + "[" + uri.getHost() + ":" + uri.getPort() + "]";
  }
}
