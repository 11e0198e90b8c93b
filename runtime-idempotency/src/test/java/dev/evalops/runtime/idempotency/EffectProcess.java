package dev.evalops.runtime.idempotency;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpService;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.time.Duration;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import javax.sql.DataSource;

/**
 * A service in a process of its own, with {@link Services#effects}. It can be told to stop dead at one point, which it
 * says, and to wait there for its end.
 */
final class EffectProcess implements AutoCloseable {
  private static final String NOWHERE = "nowhere";

  private final Process process;
  private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();

  /** What else it has printed, such as its log. */
  private final Queue<String> others = new ConcurrentLinkedQueue<>();

  private final int port;

  private EffectProcess(Process process) throws InterruptedException {
    this.process = process;
    Thread.ofVirtual().start(this::read);
    String first = lines.poll(60, TimeUnit.SECONDS);
    if (first == null || !first.startsWith("port ")) {
      process.destroyForcibly();
      throw new IllegalStateException("the service did not start: " + first + " " + others);
    }
    port = Integer.parseInt(first.substring(5));
  }

  static EffectProcess start(HikariDataSource db, Duration lease)
      throws IOException, InterruptedException {
    return start(db, lease, NOWHERE);
  }

  /**
   * Starts one that stops at a point: {@code before}, {@code after} or {@code failed}, and {@code begin}, {@code
   * effect}, {@code finish} or {@code commit}.
   */
  static EffectProcess start(HikariDataSource db, Duration lease, String point)
      throws IOException, InterruptedException {
    ProcessBuilder builder = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            System.getProperty("java.class.path"),
            EffectProcess.class.getName(),
            Long.toString(lease.toMillis()),
            point)
        .redirectErrorStream(true);
    builder
        .environment()
        .putAll(Map.of(
            "JDBC_URL", db.getJdbcUrl(),
            "JDBC_USER", db.getDataSourceProperties().getProperty("user"),
            "JDBC_PASSWORD", db.getDataSourceProperties().getProperty("password")));
    return new EffectProcess(builder.start());
  }

  private void read() {
    try (BufferedReader output = process.inputReader()) {
      output.lines().forEach(line -> (line.matches("(port|at) .*") ? lines : others).add(line));
    } catch (IOException | java.io.UncheckedIOException e) {
      lines.add("gone: " + e);
    }
  }

  int port() {
    return port;
  }

  /** Waits until it has stopped at its point, and kills it with SIGKILL. */
  void killAt(String point) throws InterruptedException {
    String line = lines.poll(60, TimeUnit.SECONDS);
    if (!("at " + point).equals(line)) {
      throw new IllegalStateException(
          "expected to be at " + point + " but it said: " + line + " " + others);
    }
    process.destroyForcibly().waitFor();
  }

  @Override
  public void close() {
    process.destroyForcibly();
  }

  public static void main(String[] args) throws InterruptedException {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try (HikariDataSource pool = new HikariDataSource()) {
      pool.setJdbcUrl(System.getenv("JDBC_URL"));
      pool.setUsername(System.getenv("JDBC_USER"));
      pool.setPassword(System.getenv("JDBC_PASSWORD"));
      DataSource db = stopping(pool, args[1], out);
      Idempotency idempotency = Idempotency.builder(db)
          .leaseFor(Duration.ofMillis(Long.parseLong(args[0])))
          .build();
      try (HttpService service = Services.serve(idempotency, Services.effects(db))) {
        out.println("port " + service.port());
        Thread.currentThread().join();
      }
    }
  }

  /** Passes everything on, and stops for good before or after a kind of statement. */
  private static DataSource stopping(DataSource db, String point, PrintStream out) {
    return proxy(DataSource.class, db, point, "", out);
  }

  private static <T> T proxy(Class<T> type, T target, String point, String kind, PrintStream out) {
    return type.cast(Proxy.newProxyInstance(
        type.getClassLoader(), new Class<?>[] {type}, (proxy, method, args) -> {
          String name = method.getName();
          String step = name.equals("commit") ? "commit" : name.startsWith("execute") ? kind : "";
          stopIf(point.equals("before " + step), point, out);
          Object result;
          try {
            result = method.invoke(target, args);
          } catch (InvocationTargetException e) {
            stopIf(point.equals("failed " + step), point, out);
            throw e.getCause();
          }
          stopIf(point.equals("after " + step), point, out);
          if (result instanceof PreparedStatement statement) {
            String sql = (String) args[0];
            String next = sql.startsWith("WITH entry")
                ? "begin"
                : sql.contains("completed_at = now()")
                    ? "finish"
                    : sql.contains("INTO effects") ? "effect" : "";
            return proxy(PreparedStatement.class, statement, point, next, out);
          }
          return result instanceof Connection connection
              ? proxy(Connection.class, connection, point, "", out)
              : result;
        }));
  }

  private static void stopIf(boolean stop, String point, PrintStream out) {
    if (stop) {
      out.println("at " + point);
      while (true) {
        LockSupport.park();
      }
    }
  }
}
