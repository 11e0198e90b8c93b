package dev.evalops.runtime.testutil;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A PostgreSQL 18 server for tests, from the binaries of zonky's embedded Postgres.
 *
 * <p>It listens on the loopback address alone, asks for the password that is in {@link #url()}, does not wait for the
 * disk (what was committed survives {@link #kill()}, not a crash of the machine), keeps its data in a temporary
 * directory, and ends with the JVM, however that ends. Safe for use by several threads.
 */
public final class PostgresServer extends TestServer {
  private static final Shared<PostgresServer> SHARED = new Shared<>(() -> shared(Host.current()));
  static final String USER = "test";
  static final String PASSWORD = "test";
  private static final Set<String> READY = Set.of("ready", "standby");

  private PostgresServer(URI uri, Optional<Backend> own) {
    super(uri, own);
  }

  /**
   * The server of this JVM: the one that {@code TEST_DATABASE_URL} names, else one that is started at the first call
   * and lives until the JVM ends.
   *
   * @return the server, always the same
   * @throws IllegalStateException when there is none and none can be started; the message says what to do
   */
  public static PostgresServer shared() {
    return SHARED.get();
  }

  static PostgresServer shared(Host host) {
    return new PostgresServer(
        host.named("TEST_DATABASE_URL").orElseGet(() -> start().uri()), Optional.empty());
  }

  /**
   * Starts an own server on a free port, whatever the environment names.
   *
   * @return the server, ready and empty
   * @throws IllegalStateException when it cannot be started
   */
  public static PostgresServer start() {
    return ServerProcess.onFreePort(PostgresServer::start);
  }

  /**
   * Starts an own server on a given port, for a test whose clients are there first.
   *
   * @param port 1 to 65535
   * @return the server, ready and empty
   * @throws IllegalStateException when it cannot be started, or the port is taken
   */
  public static PostgresServer start(int port) {
    checkPort(port);
    PostgresBinaries binaries;
    try {
      binaries = PostgresBinaries.unpacked();
    } catch (IllegalStateException e) {
      if (Host.current().docker().getAsBoolean()) {
        return of(port, DockerServer.postgres(port, USER, PASSWORD));
      }
      throw e;
    }
    return start(port, binaries);
  }

  static PostgresServer start(int port, PostgresBinaries binaries) {
    Path directory = ServerProcess.newDirectory("postgres");
    return start(port, binaries, directory, initdb(binaries, directory), List.of());
  }

  static List<String> initdb(PostgresBinaries binaries, Path directory) {
    return binaries.initdb(directory, data(directory), USER, PASSWORD);
  }

  static Path data(Path directory) {
    return directory.resolve("data");
  }

  /**
   * Starts a server in a directory of its own.
   *
   * @param setup makes its files; empty when they are there
   * @param settings further ones, {@code name=value}
   */
  static PostgresServer start(
      int port,
      PostgresBinaries binaries,
      Path directory,
      List<String> setup,
      List<String> settings) {
    Path data = data(directory);
    List<String> line = new ArrayList<>(binaries.command("postgres"));
    line.addAll(List.of("-D", data.toString(), "-p", Integer.toString(port)));
    List<String> all = new ArrayList<>(List.of(
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "max_connections=300"));
    all.addAll(settings);
    all.forEach(setting -> line.addAll(List.of("-c", setting)));
    return of(
        port,
        ServerProcess.start(
            new ServerProcess.Command(
                "Postgres server", setup, line, "QUIT", process -> isReady(data, process)),
            directory));
  }

  private static PostgresServer of(int port, Backend backend) {
    return new PostgresServer(
        URI.create("postgres://" + USER + ":" + PASSWORD + "@127.0.0.1:" + port + "/postgres"),
        Optional.of(backend));
  }

  // The server's own sign: its process id in the first line and its state in the eighth.
  private static boolean isReady(Path data, Process process) throws IOException {
    List<String> lines = Files.readAllLines(data.resolve("postmaster.pid"));
    return lines.size() >= 8
        && lines.get(0).equals(Long.toString(process.pid()))
        && READY.contains(lines.get(7).strip());
  }

  /**
   * Makes an empty schema of its own, named {@code test_} and 12 hexadecimal digits.
   *
   * @return the schema, to be closed
   * @throws SQLException when the server refuses
   */
  public TestSchema schema() throws SQLException {
    byte[] random = new byte[6];
    ThreadLocalRandom.current().nextBytes(random);
    TestSchema schema = new TestSchema(uri(), "test_" + HexFormat.of().formatHex(random));
    try {
      schema.create();
      return schema;
    } catch (SQLException e) {
      schema.pool.close();
      throw e;
    }
  }

  /**
   * Makes a schema of its own and applies SQL to it.
   *
   * @param sql statements, separated by semicolons
   * @return the schema, to be closed
   * @throws SQLException when the server refuses the schema or the SQL; nothing is left then
   */
  public TestSchema schema(String sql) throws SQLException {
    TestSchema schema = schema();
    try {
      schema.apply(sql);
      return schema;
    } catch (SQLException e) {
      schema.close();
      throw e;
    }
  }

  /**
   * A schema that belongs to one test, with a pool on it. {@link #close()} drops it. Safe for use by several threads.
   */
  public static final class TestSchema implements AutoCloseable {
    private final URI server;
    private final String name;
    private final HikariDataSource pool;

    private TestSchema(URI server, String name) {
      this.server = server;
      this.name = name;
      HikariConfig config = new HikariConfig();
      config.setPoolName(name);
      config.setJdbcUrl(
          jdbcUrl(server) + (server.getRawQuery() == null ? "?" : "&") + "currentSchema=" + name);
      config.setDataSourceProperties(user(server));
      config.setMinimumIdle(0);
      config.setInitializationFailTimeout(-1);
      this.pool = new HikariDataSource(config);
    }

    /**
     * The schema's name.
     *
     * @return {@code test_} and 12 hexadecimal digits
     */
    public String name() {
      return name;
    }

    /**
     * A pool of at most 10 connections whose {@code search_path} is this schema alone; none is open until it is asked
     * for.
     *
     * @return the pool, always the same; it is closed with the schema
     */
    public HikariDataSource dataSource() {
      return pool;
    }

    /**
     * The server's URL with this schema as {@code search_path}, for a program that makes its own pool.
     *
     * @return the URL, with user and password
     */
    public String url() {
      return server + (server.getRawQuery() == null ? "?" : "&") + "search_path=" + name;
    }

    void create() throws SQLException {
      execute("CREATE SCHEMA " + name);
    }

    void apply(String sql) throws SQLException {
      try (Connection connection = pool.getConnection();
          Statement statement = connection.createStatement()) {
        statement.setEscapeProcessing(false);
        statement.execute(sql);
      }
    }

    /**
     * Closes the pool and drops the schema with all that is in it. Sessions that still hold a lock on one of its tables
     * are ended. Safe to call twice, and when the server is gone.
     *
     * @throws IllegalStateException when the server does not drop it
     */
    @Override
    public void close() {
      if (pool.isClosed()) {
        return;
      }
      pool.close();
      try {
        execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                + " JOIN pg_namespace n ON n.oid = c.relnamespace"
                + " WHERE n.nspname = '" + name + "' AND l.pid <> pg_backend_pid();"
                + " SET lock_timeout = '10s'; SET client_min_messages = warning; DROP SCHEMA IF EXISTS "
                + name + " CASCADE");
      } catch (SQLException e) {
        if (String.valueOf(e.getSQLState()).startsWith("08")) {
          return; // no server, no schema
        }
        throw new IllegalStateException(
            "cannot drop the schema " + name + ": " + e.getMessage(), e);
      }
    }

    private void execute(String sql) throws SQLException {
      try (Connection connection = DriverManager.getConnection(jdbcUrl(server), user(server));
          Statement statement = connection.createStatement()) {
        statement.execute(sql);
      }
    }

    /** Names the schema. */
    @Override
    public String toString() {
      return name;
    }

    private static String jdbcUrl(URI server) {
      String query = server.getRawQuery() == null ? "" : "?" + server.getRawQuery();
      String port = server.getPort() < 0 ? "" : ":" + server.getPort();
      String path = server.getRawPath().isEmpty() ? "/" : server.getRawPath();
      return "jdbc:postgresql://" + server.getHost() + port + path + query;
    }

    private static Properties user(URI server) {
      Properties properties = new Properties();
      String info = server.getRawUserInfo();
      if (info != null) {
        int colon = info.indexOf(':');
        properties.setProperty("user", decode(colon < 0 ? info : info.substring(0, colon)));
        if (colon >= 0) {
          properties.setProperty("password", decode(info.substring(colon + 1)));
        }
      }
      return properties;
    }

    private static String decode(String part) {
      return URLDecoder.decode(part.replace("+", "%2B"), StandardCharsets.UTF_8);
    }
  }
}
