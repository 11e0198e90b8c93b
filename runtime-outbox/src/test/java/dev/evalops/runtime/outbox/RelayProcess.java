package dev.evalops.runtime.outbox;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.slf4j.LoggerFactory;

/** A process with an outbox and nothing else, to be killed. */
final class RelayProcess implements AutoCloseable {
  private static final String UP = "relay is up";
  private static final long ORIGIN = System.nanoTime() - 1;

  private final Process process;
  private final AtomicInteger acquired = new AtomicInteger();
  private volatile long acquiredAt;
  private volatile boolean up;

  private RelayProcess(Process process) {
    this.process = process;
    Thread.ofVirtual().start(this::read);
  }

  static RelayProcess start(String databaseUrl, String natsUrl) throws IOException {
    return new RelayProcess(new ProcessBuilder(List.of(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            System.getProperty("java.class.path"),
            RelayProcess.class.getName(),
            databaseUrl,
            natsUrl))
        .redirectErrorStream(true)
        .start());
  }

  private void read() {
    try (BufferedReader lines = process.inputReader()) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.equals(UP)) {
          up = true;
        } else if (line.contains("lease acquired")) {
          acquiredAt = System.nanoTime() - ORIGIN;
          acquired.incrementAndGet();
        }
      }
    } catch (IOException e) {
      // it was killed
    }
  }

  /** Whether it relays, or waits for its turn. */
  boolean isUp() {
    return up;
  }

  /** How often it has become the one that relays. */
  int acquired() {
    return acquired.get();
  }

  /** When it has last become that one; zero if never. */
  long acquiredAt() {
    return acquiredAt;
  }

  /** Stops it as a hypervisor would, or lets it go on. */
  void signal(String name) throws IOException, InterruptedException {
    new ProcessBuilder("kill", "-" + name, Long.toString(process.pid())).start().waitFor();
  }

  /** Kills it, without a last word. */
  @Override
  public void close() {
    process.destroyForcibly();
  }

  public static void main(String[] args) throws InterruptedException {
    ((Logger) LoggerFactory.getLogger(Outbox.class)).setLevel(Level.DEBUG);
    try (HikariDataSource db = Postgres.builder(args[0])
            .configure(pool -> pool.setMaximumPoolSize(2))
            .open();
        NatsBus bus = Notes.bus(args[1]);
        Outbox outbox = Outbox.start(db, bus)) {
      System.out.println(UP);
      Thread.currentThread().join();
    }
  }
}
