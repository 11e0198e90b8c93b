package dev.evalops.runtime.outbox;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/** A network before a server: hands on what it gets until it is opened, and then nothing, without a word; healed, it hands on what it has held. */
final class BlackHole implements AutoCloseable {
  private final ServerSocket listener;
  private final int server;
  private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private boolean open;

  private BlackHole(ServerSocket listener, int server) {
    this.listener = listener;
    this.server = server;
  }

  static BlackHole before(int server) throws IOException {
    BlackHole hole =
        new BlackHole(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()), server);
    Thread.ofVirtual().start(hole::accept);
    return hole;
  }

  /** The address of the server behind it, with this one's port. */
  String url(String direct) {
    return direct.replace(":" + server, ":" + listener.getLocalPort());
  }

  void open() {
    set(true);
  }

  void heal() {
    set(false);
  }

  private void set(boolean wanted) {
    lock.lock();
    try {
      open = wanted;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private void awaitHealed() throws InterruptedException {
    lock.lock();
    try {
      while (open) {
        changed.await();
      }
    } finally {
      lock.unlock();
    }
  }

  private void accept() {
    try {
      while (true) {
        Socket client = listener.accept();
        sockets.add(client);
        Thread.ofVirtual().start(() -> connect(client));
      }
    } catch (IOException closed) {
      // the end
    }
  }

  private void connect(Socket client) {
    try {
      awaitHealed();
      Socket behind = new Socket(InetAddress.getLoopbackAddress(), server);
      sockets.add(behind);
      Thread.ofVirtual().start(() -> copy(client, behind));
      copy(behind, client);
    } catch (IOException e) {
      end(client);
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
        awaitHealed();
        out.write(buffer, 0, n);
      }
      awaitHealed();
    } catch (IOException e) {
      // one side has ended
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    end(from);
    end(to);
  }

  private void end(Socket socket) {
    sockets.remove(socket);
    try {
      socket.close();
    } catch (IOException e) {
      // it is gone
    }
  }

  @Override
  public void close() throws IOException {
    listener.close();
    heal();
    sockets.forEach(this::end);
  }
}
