package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.Set;

/**
 * A Postgres primary with a streaming hot standby, for tests of a failover. A server fails by its own {@link
 * PostgresServer#kill}, {@link PostgresServer#pause}, or by {@link #cutOff} here; {@link #promote} puts the standby in
 * its place, and {@link #rejoin} brings the old primary back as a standby.
 *
 * <pre>{@code
 * try (PostgresPair pair = PostgresPair.start();
 *     HikariDataSource db = Postgres.open(pair.url())) {
 *   pair.primary().kill();
 *   pair.promote();
 *   pair.rejoin();
 * }
 * }</pre>
 *
 * <p>While there is a standby, a commit is answered when the standby has it: what was answered survives the failover,
 * and a primary that is cut off answers none. Without its standby a primary commits nothing until it is back. Both end
 * with the JVM. Safe for use by several threads.
 */
public final class PostgresPair implements AutoCloseable {
  /** Not copied: what belongs to the running server, and the log, which the standby gets from the primary. */
  private static final Set<String> WITHOUT_CONTENT = Set.of(
      "pg_wal",
      "pg_replslot",
      "pg_dynshmem",
      "pg_notify",
      "pg_serial",
      "pg_snapshots",
      "pg_stat_tmp",
      "pg_subtrans");

  private static final Set<String> LEFT_OUT = Set.of(
      "postmaster.pid",
      "postmaster.opts",
      "postgresql.auto.conf",
      "standby.signal",
      "backup_label");

  private final PostgresBinaries binaries;
  private final Members members = new Members();
  private final String url;
  private Node primary;
  private Node other;
  private boolean otherFollows;

  private record Node(PostgresServer server, Path directory, FaultProxy proxy) {
    Connection connect() throws SQLException {
      return DriverManager.getConnection(
          "jdbc:postgresql://127.0.0.1:" + server.port()
              + "/postgres?connectTimeout=5&socketTimeout=60",
          PostgresServer.USER,
          PostgresServer.PASSWORD);
    }
  }

  private PostgresPair(PostgresBinaries binaries, int port, int standbyPort) {
    this.binaries = binaries;
    FaultProxy first = members.add(FaultProxy.start(port));
    FaultProxy second = members.add(FaultProxy.start(standbyPort));
    this.url = "postgres://" + PostgresServer.USER + ":" + PostgresServer.PASSWORD + "@127.0.0.1:"
        + first.port() + ",127.0.0.1:" + second.port()
        + "/postgres?target_session_attrs=read-write";
    try {
      Path directory = ServerProcess.newDirectory("postgres");
      this.primary =
          launch(port, directory, PostgresServer.initdb(binaries, directory), first, second);
      this.other = follower(standbyPort, second, first);
      this.otherFollows = true;
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  /**
   * Starts a primary, and a standby that follows it.
   *
   * @return both, ready and empty
   * @throws IllegalStateException when they cannot be started
   */
  public static PostgresPair start() {
    PostgresBinaries binaries = PostgresBinaries.unpacked();
    return ServerProcess.onFreePort(
        port -> new PostgresPair(binaries, port, ServerProcess.freePorts(1)[0]));
  }

  private Node launch(
      int port, Path directory, List<String> setup, FaultProxy proxy, FaultProxy toPrimary) {
    List<String> settings = List.of(
        "primary_conninfo=host=127.0.0.1 port=" + toPrimary.port() + " user=" + PostgresServer.USER
            + " password=" + PostgresServer.PASSWORD + " connect_timeout=2",
        "wal_keep_size=512MB",
        "wal_retrieve_retry_interval=200ms");
    PostgresServer server =
        members.add(PostgresServer.start(port, binaries, directory, setup, settings));
    return new Node(server, directory, proxy);
  }

  private Node follower(int port, FaultProxy proxy, FaultProxy toPrimary) {
    Path directory = ServerProcess.newDirectory("postgres");
    try (Connection connection = primary.connect();
        Statement statement = connection.createStatement()) {
      copy(statement, directory);
      Node follower = launch(port, directory, List.of(), proxy, toPrimary);
      try {
        awaitFollower(statement, "state = 'streaming'");
        statement.execute("ALTER SYSTEM SET synchronous_standby_names = '*'");
        statement.execute("SELECT pg_reload_conf()");
        awaitFollower(statement, "sync_state = 'sync'");
        // Commits wait for it only once the checkpointer has read the setting, too.
        statement.execute("CHECKPOINT");
        return follower;
      } catch (SQLException | RuntimeException e) {
        forget(follower, statement, e);
        throw e;
      }
    } catch (SQLException e) {
      throw new IllegalStateException("cannot start the standby: " + e.getMessage(), e);
    } catch (IOException e) {
      throw new UncheckedIOException("cannot copy the primary: " + e.getMessage(), e);
    }
  }

  /** So that its port is free when it is tried again, and the primary does not wait for it. */
  private void forget(Node follower, Statement statement, Exception failure) {
    try {
      members.close(follower.server());
    } catch (RuntimeException e) {
      failure.addSuppressed(e);
    }
    try {
      statement.execute("ALTER SYSTEM RESET synchronous_standby_names");
      statement.execute("SELECT pg_reload_conf()");
    } catch (SQLException e) {
      failure.addSuppressed(e);
    }
  }

  private static void awaitFollower(Statement statement, String state) {
    Members.await("a standby whose " + state, () -> {
      try (ResultSet row =
          statement.executeQuery("SELECT count(*) FROM pg_stat_replication WHERE " + state)) {
        return row.next() && row.getInt(1) == 1;
      } catch (SQLException e) {
        throw new IOException(e.getMessage(), e);
      }
    });
  }

  /** What {@code pg_basebackup} does, which is not among the programs. */
  private void copy(Statement statement, Path directory) throws SQLException, IOException {
    binaries.giveAway(directory);
    Path data = PostgresServer.data(directory);
    statement.execute("SELECT pg_backup_start('standby', fast => true)");
    copyFiles(PostgresServer.data(primary.directory()), data);
    try (ResultSet row =
        statement.executeQuery("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)")) {
      row.next();
      write(data.resolve("backup_label"), row.getString(1));
    }
    write(data.resolve("standby.signal"), "");
    write(data.resolve("postgresql.auto.conf"), "");
  }

  private void write(Path file, String text) throws IOException {
    Files.writeString(file, text);
    own(file, "rw-------");
  }

  private void own(Path file, String permissions) throws IOException {
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(permissions));
    binaries.giveAway(file);
  }

  private void copyFiles(Path from, Path to) throws IOException {
    Files.walkFileTree(from, new SimpleFileVisitor<>() {
      @Override
      public FileVisitResult preVisitDirectory(Path directory, BasicFileAttributes attributes)
          throws IOException {
        Path copy = to.resolve(from.relativize(directory));
        Files.createDirectory(copy);
        own(copy, "rwx------");
        return WITHOUT_CONTENT.contains(directory.getFileName().toString())
            ? FileVisitResult.SKIP_SUBTREE
            : FileVisitResult.CONTINUE;
      }

      @Override
      public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
          throws IOException {
        if (!LEFT_OUT.contains(file.getFileName().toString())) {
          Path copy = to.resolve(from.relativize(file));
          try {
            Files.copy(file, copy);
            own(copy, "rw-------");
          } catch (NoSuchFileException e) {
            // dropped by the server meanwhile
          }
        }
        return FileVisitResult.CONTINUE;
      }

      @Override
      public FileVisitResult visitFileFailed(Path file, IOException e) throws IOException {
        if (e instanceof NoSuchFileException) {
          return FileVisitResult.CONTINUE;
        }
        throw e;
      }
    });
  }

  /**
   * Returns where both servers are, in the form that a service has in its environment.
   *
   * @return a URL with two hosts, user and password, that asks for the one that writes; it stays the same
   */
  public String url() {
    return url;
  }

  /**
   * The server that was started as the primary, or promoted last.
   *
   * @return the primary
   */
  public synchronized PostgresServer primary() {
    return primary.server();
  }

  /**
   * The other server: the standby, or after {@link #promote} the former primary, as it then is.
   *
   * @return the standby
   */
  public synchronized PostgresServer standby() {
    return other.server();
  }

  /**
   * Makes the standby the primary, and returns when it writes. The former primary stays as it is: who tries a failure
   * kills, pauses or cuts it off before; else both take commits, and those of the former wait for a standby.
   *
   * @throws IllegalStateException when there is no standby, or it cannot be promoted within 60 s
   */
  public synchronized void promote() {
    if (!otherFollows) {
      throw new IllegalStateException("there is no standby; rejoin() the former primary first");
    }
    try (Connection connection = other.connect();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT pg_promote(true, 60)")) {
      if (!row.next() || !row.getBoolean(1)) {
        throw new IllegalStateException("the standby was not promoted within 60 s");
      }
    } catch (SQLException e) {
      throw new IllegalStateException("cannot promote the standby: " + e.getMessage(), e);
    }
    Node former = primary;
    primary = other;
    other = former;
    otherFollows = false;
  }

  /**
   * Brings the former primary back as the standby, on its port, with a fresh copy of what the primary has; what it had
   * alone is gone. It need not run, and is no longer cut off. Returns when it follows.
   *
   * @throws IllegalStateException when there is a standby, or this one cannot be started
   */
  public synchronized void rejoin() {
    if (otherFollows) {
      throw new IllegalStateException("the standby is one already; promote() it first");
    }
    Node former = other;
    members.close(former.server());
    former.proxy().cut();
    former.proxy().heal();
    other = follower(former.server().port(), former.proxy(), primary.proxy());
    otherFollows = true;
  }

  /**
   * Cuts a server off from clients and from the other server until {@link #heal}, while it keeps running.
   *
   * @param server one of both
   */
  public void cutOff(PostgresServer server) {
    proxy(server).blackHole();
  }

  /**
   * Ends {@link #cutOff}.
   *
   * @param server one of both
   */
  public void heal(PostgresServer server) {
    proxy(server).heal();
  }

  private synchronized FaultProxy proxy(PostgresServer server) {
    return (server == primary.server() ? primary : other).proxy();
  }

  /** Stops both servers at once and deletes their files. Safe to call twice. */
  @Override
  public void close() {
    members.close();
  }
}
