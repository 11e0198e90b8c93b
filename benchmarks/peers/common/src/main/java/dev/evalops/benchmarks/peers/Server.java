package dev.evalops.benchmarks.peers;

import com.sun.tools.attach.VirtualMachine;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import javax.net.SocketFactory;

/** A service as a process of its own, pinned to cores, from when it answers. */
final class Server implements AutoCloseable {
  private static final long TICK_MILLIS = 10; // USER_HZ is 100 on every Linux that Java runs on.

  private final Process process;
  private final double readyMillis;
  final String origin;

  private Server(Process process, String origin, double readyMillis) {
    this.process = process;
    this.origin = origin;
    this.readyMillis = readyMillis;
  }

  /**
   * Starts a service and waits until it answers.
   *
   * @param sockets make the connection that asks whether it does
   * @param jvm the class path, the main class and all that comes before them
   */
  static Server start(String cores, SocketFactory sockets, String scheme, List<String> jvm, String mode)
      throws Exception {
    int port = freePort();
    List<String> command = new ArrayList<>(List.of("taskset", "-c", cores));
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(jvm);
    command.add(Integer.toString(port));
    Stream.of(mode).filter(m -> !m.isEmpty()).forEach(command::add);
    long start = System.nanoTime();
    Process process = new ProcessBuilder(command)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .redirectError(ProcessBuilder.Redirect.DISCARD)
        .start();
    try {
      long end = start + TimeUnit.SECONDS.toNanos(60);
      while (!answers(sockets, port)) {
        if (!process.isAlive() || System.nanoTime() > end) {
          throw new IllegalStateException("does not answer: " + String.join(" ", command));
        }
        Thread.sleep(2);
      }
      return new Server(process, scheme + "://localhost:" + port, (System.nanoTime() - start) / 1e6);
    } catch (Throwable e) {
      process.destroyForcibly();
      throw e;
    }
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static boolean answers(SocketFactory sockets, int port) {
    try (Socket socket = sockets.createSocket(InetAddress.getLoopbackAddress(), port)) {
      socket.setSoTimeout(5_000);
      socket.getOutputStream()
          .write("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
              .getBytes(StandardCharsets.US_ASCII));
      byte[] start = socket.getInputStream().readNBytes(12);
      return new String(start, StandardCharsets.US_ASCII).equals("HTTP/1.1 200");
    } catch (IOException e) {
      return false;
    }
  }

  double readyMillis() {
    return readyMillis;
  }

  double cpuMillis() throws IOException {
    String stat = Files.readString(proc("stat"));
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
    return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * TICK_MILLIS;
  }

  double residentMiB() throws IOException {
    try (Stream<String> lines = Files.lines(proc("status"))) {
      String line = lines.filter(l -> l.startsWith("VmRSS:")).findFirst().orElseThrow();
      return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
    }
  }

  private Path proc(String file) {
    return Path.of("/proc", Long.toString(process.pid()), file);
  }

  /** The beans of the service. */
  JMXConnector connect() throws Exception {
    VirtualMachine machine = VirtualMachine.attach(Long.toString(process.pid()));
    try {
      return JMXConnectorFactory.connect(new JMXServiceURL(machine.startLocalManagementAgent()));
    } finally {
      machine.detach();
    }
  }

  /** Asks the service to end, and waits until it has. */
  void terminate() throws InterruptedException {
    process.destroy();
    if (!process.waitFor(2, TimeUnit.MINUTES)) {
      throw new IllegalStateException("the service does not end");
    }
  }

  @Override
  public void close() throws InterruptedException {
    process.destroyForcibly().waitFor();
  }
}
