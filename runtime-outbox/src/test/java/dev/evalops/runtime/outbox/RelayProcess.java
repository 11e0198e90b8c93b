package dev.evalops.runtime.outbox;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** A process with an outbox and nothing else, to be killed. */
final class RelayProcess implements AutoCloseable {
  private final Process process;

  private RelayProcess(Process process) {
    this.process = process;
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
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start());
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
    try (HikariDataSource db = Postgres.builder(args[0])
            .configure(pool -> pool.setMaximumPoolSize(2))
            .open();
        NatsBus bus = OutboxNatsTest.bus(args[1]);
        Outbox outbox = Outbox.start(db, bus)) {
      Thread.currentThread().join();
    }
  }
}
