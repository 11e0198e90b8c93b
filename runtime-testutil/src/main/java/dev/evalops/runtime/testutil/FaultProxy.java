package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A network before a server of this machine: hands on what it gets, until it is told to cut, delay, half-close or
 * swallow.
 *
 * <pre>{@code
 * try (PostgresServer postgres = PostgresServer.start();
 *     FaultProxy network = FaultProxy.start(postgres.port())) {
 *   service.open(network.url(postgres.url()));
 *   network.blackHole();
 * }
 * }</pre>
 *
 * <p>It listens on the loopback address alone. Safe for use by several threads.
 */
public final class FaultProxy implements AutoCloseable {
  private static final int BACKLOG = 100;

  private final ServerSocket listener;
  private final Set<Link> links = ConcurrentHashMap.newKeySet();
  private final AtomicInteger connections = new AtomicInteger();
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition healed = lock.newCondition();
  private volatile int target;
  private volatile Duration delay = Duration.ZERO;
  private boolean blackHole;

  private FaultProxy(ServerSocket listener, int target) {
    this.listener = listener;
    this.target = target;
  }

  /**
   * Starts a proxy on a free port.
   *
   * @param target the port of the server, 1 to 65535; it need not be there yet
   * @return the proxy, which hands everything on
   * @throws IllegalArgumentException when the port is out of range
   */
  public static FaultProxy start(int target) {
    TestServer.checkPort(target);
    try {
      FaultProxy proxy =
          new FaultProxy(new ServerSocket(0, BACKLOG, InetAddress.getLoopbackAddress()), target);
      Thread.ofVirtual().name("fault-proxy-" + target).start(proxy::accept);
      return proxy;
    } catch (IOException e) {
      throw new UncheckedIOException("cannot start a proxy: " + e.getMessage(), e);
    }
  }

  /**
   * The port on which the proxy listens.
   *
   * @return the port
   */
  public int port() {
    return listener.getLocalPort();
  }

  /**
   * The address of the server, with the port of this proxy.
   *
   * @param direct a URL with the server's own port
   * @return the URL to give to a client
   * @throws IllegalArgumentException if that port is not in the URL
   */
  public String url(String direct) {
    String proxied = direct.replaceAll(":" + target + "(?!\\d)", ":" + port());
    if (proxied.equals(direct)) {
      throw new IllegalArgumentException("url must have port " + target + ", that of the server");
    }
    return proxied;
  }

  /**
   * Returns how many connections were taken since the start.
   *
   * @return zero or more
   */
  public int connections() {
    return connections.get();
  }

  /**
   * Returns how many connections are open, which neither side has left.
   *
   * @return zero or more
   */
  public int openConnections() {
    return links.size();
  }

  /**
   * Leads new connections to another server; those that are there stay where they are.
   *
   * @param port 1 to 65535
   * @throws IllegalArgumentException when the port is out of range
   */
  public void target(int port) {
    TestServer.checkPort(port);
    target = port;
  }

  /** Cuts all connections with a reset, on both sides. New ones are taken. */
  public void cut() {
    links.forEach(Link::reset);
  }

  /**
   * Ends what the server says, on all connections: a client reads the end of the stream, while what it sends still
   * arrives. New connections are whole.
   */
  public void halfClose() {
    links.forEach(Link::endAnswers);
  }

  /**
   * Hands nothing on from now, without a word: connections stay, new ones are taken, and what is sent is kept until
   * {@link #heal()}.
   */
  public void blackHole() {
    swallow(true);
  }

  /**
   * Delays each piece that is read, in both directions.
   *
   * @param delay how long; zero for not at all
   * @throws IllegalArgumentException if it is negative
   */
  public void delay(Duration delay) {
    if (delay.isNegative()) {
      throw new IllegalArgumentException("delay must be zero or more: " + delay);
    }
    this.delay = delay;
  }

  /** Hands on what a {@link #blackHole()} has kept, and everything from now, without delay. */
  public void heal() {
    delay = Duration.ZERO;
    swallow(false);
  }

  private void swallow(boolean wanted) {
    lock.lock();
    try {
      blackHole = wanted;
      healed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private void awaitHealed() throws InterruptedException {
    lock.lock();
    try {
      while (blackHole) {
        healed.await();
      }
    } finally {
      lock.unlock();
    }
  }

  private void accept() {
    try {
      while (true) {
        Link link = new Link(listener.accept());
        links.add(link);
        connections.incrementAndGet();
        Thread.ofVirtual().start(link::connect);
      }
    } catch (IOException closed) {
      links.forEach(Link::reset);
    }
  }

  /** Stops listening and cuts all connections. Safe to call twice. */
  @Override
  public void close() {
    end(listener);
    cut();
    heal();
  }

  /** Names the ports. */
  @Override
  public String toString() {
    return "FaultProxy[" + port() + " -> " + target + "]";
  }

  private static void end(AutoCloseable socket) {
    try {
      socket.close();
    } catch (Exception e) {
      // it is gone
    }
  }

  private final class Link {
    private final Socket client;
    private final AtomicInteger ended = new AtomicInteger();
    private volatile @Nullable Socket server;

    Link(Socket client) {
      this.client = client;
    }

    void connect() {
      try {
        awaitHealed();
        Socket behind = new Socket(InetAddress.getLoopbackAddress(), target);
        server = behind;
        if (!links.contains(this)) { // cut meanwhile
          reset();
          return;
        }
        client.setTcpNoDelay(true);
        behind.setTcpNoDelay(true);
        Thread.ofVirtual().start(() -> copy(client, behind));
        copy(behind, client);
      } catch (IOException e) {
        reset();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }

    private void copy(Socket from, Socket to) {
      byte[] buffer = new byte[64 << 10];
      try {
        InputStream in = from.getInputStream();
        OutputStream out = to.getOutputStream();
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          Thread.sleep(delay);
          awaitHealed();
          if (!to.isOutputShutdown()) {
            out.write(buffer, 0, n);
          }
        }
        awaitHealed();
        if (!to.isOutputShutdown()) {
          to.shutdownOutput();
        }
        if (ended.incrementAndGet() == 2) {
          leave();
        }
      } catch (IOException e) {
        reset();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }

    void endAnswers() {
      try {
        client.shutdownOutput();
      } catch (IOException e) {
        reset();
      }
    }

    /** As a lost network does, not as an orderly end. */
    void reset() {
      for (Socket socket : sockets()) {
        try {
          socket.setSoLinger(true, 0);
        } catch (IOException e) {
          // it is closed
        }
      }
      leave();
    }

    private void leave() {
      links.remove(this);
      sockets().forEach(FaultProxy::end);
    }

    private Iterable<Socket> sockets() {
      Socket behind = server;
      return behind == null ? Set.of(client) : Set.of(client, behind);
    }
  }
}
