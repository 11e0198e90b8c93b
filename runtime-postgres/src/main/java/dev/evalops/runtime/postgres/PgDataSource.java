package dev.evalops.runtime.postgres;

import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Rotation;
import java.io.PrintWriter;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.SQLTimeoutException;
import java.sql.SQLTransientConnectionException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.logging.Logger;
import javax.net.ssl.SSLContext;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.postgresql.Driver;
import org.postgresql.PGConnection;
import org.postgresql.PGProperty;
import org.postgresql.jdbc.PgConnection;
import org.postgresql.util.PSQLState;
import org.slf4j.LoggerFactory;

/**
 * Connects by the driver itself, and not by {@link java.sql.DriverManager}, whose login timeout is one for the whole
 * process. Secrets stand in the properties, so that the URL can be printed.
 *
 * <p>Of several hosts each gets a share of the time for TCP, TLS and login, where the driver waits for the first as
 * long as for all of them. A host that failed a moment ago is tried last.
 */
final class PgDataSource implements DataSource {
  private static final org.slf4j.Logger LOG = LoggerFactory.getLogger(Postgres.class);
  private static final Driver DRIVER = new Driver();
  private static final long AVOID_NANOS = Duration.ofSeconds(10).toNanos();
  private static final Duration SILENT_AFTER = Duration.ofSeconds(3);
  private static final String BEFORE_HOSTS = "jdbc:postgresql://";

  private final String url;
  private final Properties properties;
  private final Duration pingTimeout;
  private final @Nullable SSLContext tls;
  private final @Nullable Rotation<Secret> rotation;

  /** Which version of the secret a connection was made with. */
  private final Map<Connection, Long> madeWith = Collections.synchronizedMap(new WeakHashMap<>());

  /** The version of the last good login, 0 before the first. */
  private final AtomicLong proven = new AtomicLong();

  private final Map<String, Long> failedAt = new ConcurrentHashMap<>();
  private final AtomicBoolean poolerSeen = new AtomicBoolean();
  private final Failover failover = new Failover();
  private volatile int loginTimeoutSeconds;

  /**
   * Takes a URL without secrets.
   *
   * @param properties settings of the driver, which may still change until the first connection
   * @param pingTimeout the time of a connection while there is no login timeout; the caller sees to it
   * @param rotation what to log in with, if that is not in the properties or may change
   */
  PgDataSource(
      String url,
      Properties properties,
      Duration pingTimeout,
      @Nullable SSLContext tls,
      @Nullable Rotation<Secret> rotation) {
    this.url = url;
    this.properties = properties;
    this.pingTimeout = pingTimeout;
    this.tls = tls;
    this.rotation = rotation;
  }

  /** What the driver is told by the URL or the properties. */
  @Nullable
  String setting(PGProperty property) {
    return settings(properties).getProperty(property.getName());
  }

  static boolean accepts(String url) {
    return DRIVER.acceptsURL(url);
  }

  /** Whether connections are wanted to a server that writes, and to no other. */
  boolean wantsPrimary() {
    return isPrimary(targetServerType(settings(properties)));
  }

  private static boolean isPrimary(String targetServerType) {
    return targetServerType.equals("primary") || targetServerType.equals("master");
  }

  /** Whether there is another host to go to when the primary is silent. */
  boolean canFailOver() {
    return wantsPrimary() && authority().contains(",");
  }

  @Override
  public Connection getConnection() throws SQLException {
    return getConnection(null, null);
  }

  /**
   * Reads the secret at each login, and once more when the login is refused: it may have been replaced in between. A
   * refusal after the first good login can pass.
   */
  @Override
  public Connection getConnection(@Nullable String user, @Nullable String password)
      throws SQLException {
    if (rotation == null) {
      return open(user, password);
    }
    Rotation.Version<Secret> used = read(rotation);
    Connection connection;
    try {
      try {
        connection = open(used.value(), user, password);
      } catch (SQLException refused) {
        if (FailureKind.of(refused) != FailureKind.PERMANENT) {
          throw refused;
        }
        Rotation.Version<Secret> again = read(rotation);
        if (again.number() == used.number()) {
          throw refused;
        }
        used = again;
        connection = open(used.value(), user, password);
      }
    } catch (SQLException failure) {
      throw proven.get() > 0 && isRefusedLogin(failure) ? passing(failure) : failure;
    }
    madeWith.put(connection, used.number());
    proven.accumulateAndGet(used.number(), Math::max);
    return connection;
  }

  private static Rotation.Version<Secret> read(Rotation<Secret> rotation) throws SQLException {
    try {
      return rotation.read();
    } catch (IllegalStateException failure) {
      throw new SQLTransientConnectionException(
          failure.getMessage(), PSQLState.CONNECTION_UNABLE_TO_CONNECT.getState());
    }
  }

  private static boolean isRefusedLogin(SQLException failure) {
    String state = failure.getSQLState();
    return FailureKind.of(failure) == FailureKind.PERMANENT
        && state != null
        && (state.startsWith("28") || state.startsWith("08"));
  }

  /** Without the refusal as its cause, for that is permanent. */
  private static SQLException passing(SQLException refused) {
    SQLException passing = new SQLTransientConnectionException(
        "login refused, the credentials or certificates may be changing: " + refused.getMessage(),
        PSQLState.CONNECTION_UNABLE_TO_CONNECT.getState());
    passing.addSuppressed(refused);
    return passing;
  }

  private Connection open(Secret secret, @Nullable String user, @Nullable String password)
      throws SQLException {
    Credentials credentials = secret.credentials();
    return credentials == null
        ? open(user, password)
        : open(credentials.user(), credentials.password());
  }

  /** Whether a login with this version, or a later one, was good. */
  boolean isProven(long version) {
    return proven.get() >= version;
  }

  /** How many open connections were made with an older version. */
  int countOlderThan(long version) {
    synchronized (madeWith) {
      int count = 0;
      for (Map.Entry<Connection, Long> made : madeWith.entrySet()) {
        count += made.getValue() < version && isOpen(made.getKey()) ? 1 : 0;
      }
      return count;
    }
  }

  private static boolean isOpen(@Nullable Connection connection) {
    try {
      return connection != null && !connection.isClosed();
    } catch (SQLException broken) {
      return false;
    }
  }

  /** Whether this connection, however it is wrapped, was made with an older version. */
  boolean isOlderThan(long version, Connection connection) {
    try {
      return connection.isWrapperFor(PgConnection.class)
          && madeWith.getOrDefault(connection.unwrap(PgConnection.class), version) < version;
    } catch (SQLException broken) {
      return false;
    }
  }

  private Connection open(@Nullable String user, @Nullable String password) throws SQLException {
    Properties all = new Properties();
    all.putAll(properties);
    if (user != null) {
      all.setProperty("user", user);
    }
    if (password != null) {
      all.setProperty("password", password);
    }
    Properties settings = settings(all);
    String type = targetServerType(settings);
    List<String> hosts = hosts(settings);
    boolean limited = loginTimeoutSeconds > 0;
    long deadline = System.nanoTime()
        + (limited ? Duration.ofSeconds(loginTimeoutSeconds) : pingTimeout).toNanos();
    List<SQLException> failures = new ArrayList<>();
    List<String> kinds = hosts.size() > 1 ? kinds(type) : List.of(type);
    for (String each : kinds) {
      List<String> ofOtherKind = new ArrayList<>();
      for (int i = 0; i < hosts.size(); i++) {
        if (!ofOtherKind.isEmpty() && !each.equals(kinds.getLast()) && hasFailed(hosts.get(i))) {
          continue; // there is one that will do
        }
        // One that is of another kind may be promoted, and is found then by the next attempt.
        int left = hosts.size() - i + (ofOtherKind.isEmpty() ? 0 : 1);
        Duration share = left == 1 && !limited
            ? null
            : Duration.ofNanos(Math.max(1, (deadline - System.nanoTime()) / left));
        try {
          Connection connection =
              connect(hosts.get(i), each, all, shorter(share, connectTimeout(settings)));
          if (isPrimary(each)) {
            failover.connected(
                hosts.get(i),
                connection,
                other -> connect(other, each, all, SILENT_AFTER).close());
          }
          return connection;
        } catch (SQLException failure) {
          failures.add(failure);
          if (Thread.currentThread().isInterrupted()) {
            throw failure;
          }
          if (isOfOtherKind(failure)) {
            ofOtherKind.add(hosts.get(i));
          } else {
            failedAt.put(hosts.get(i), System.nanoTime());
            failover.failed(hosts.get(i), failure);
          }
        }
      }
      hosts = ofOtherKind;
    }
    throw oneOf(failures);
  }

  /** A permanent one, if there is one, so that the start ends; the others go with it. */
  private static SQLException oneOf(List<SQLException> failures) {
    SQLException thrown = failures.stream()
        .filter(failure -> FailureKind.of(failure) == FailureKind.PERMANENT)
        .findFirst()
        .orElse(failures.getLast());
    failures.remove(thrown);
    failures.forEach(thrown::addSuppressed);
    return thrown;
  }

  /** What the driver reads from the URL and the properties. */
  private Properties settings(Properties all) {
    return Objects.requireNonNull(Driver.parseURL(url, all), "settings");
  }

  private static String targetServerType(Properties settings) {
    return settings.getProperty(PGProperty.TARGET_SERVER_TYPE.getName(), "any");
  }

  /** What is asked of the hosts, one kind after the other. */
  private static List<String> kinds(String targetServerType) {
    return switch (targetServerType) {
      case "preferSecondary", "preferSlave" -> List.of("secondary", "any");
      case "preferPrimary" -> List.of("primary", "any");
      default -> List.of(targetServerType);
    };
  }

  /** How the driver says that it has reached the host, and that it is not of the kind: without a cause. */
  private static boolean isOfOtherKind(SQLException failure) {
    return PSQLState.CONNECTION_UNABLE_TO_CONNECT.getState().equals(failure.getSQLState())
        && failure.getCause() == null;
  }

  private static @Nullable Duration connectTimeout(Properties settings) throws SQLException {
    String given = settings.getProperty(PGProperty.CONNECT_TIMEOUT.getName());
    int seconds = given == null ? 0 : PGProperty.CONNECT_TIMEOUT.getInt(settings);
    return seconds > 0 ? Duration.ofSeconds(seconds) : null;
  }

  private static @Nullable Duration shorter(@Nullable Duration a, @Nullable Duration b) {
    return a == null || (b != null && b.compareTo(a) < 0) ? b : a;
  }

  /** The hosts in the order in which they are tried. */
  private List<String> hosts(Properties settings) {
    String all = authority();
    List<String> hosts = new ArrayList<>(List.of(all.split(",")));
    if (Boolean.parseBoolean(settings.getProperty(PGProperty.LOAD_BALANCE_HOSTS.getName()))) {
      Collections.shuffle(hosts);
    }
    List<String> later = hosts.stream().filter(this::hasFailed).toList();
    hosts.removeAll(later);
    hosts.addAll(later);
    return hosts;
  }

  /** Whether the host has failed a moment ago. */
  private boolean hasFailed(String host) {
    Long at = failedAt.get(host);
    return at != null && System.nanoTime() - at < AVOID_NANOS;
  }

  /** The hosts of the URL, with their ports; empty if it has none. */
  private String authority() {
    if (!url.startsWith(BEFORE_HOSTS)) {
      return "";
    }
    String rest = url.substring(BEFORE_HOSTS.length());
    return rest.split("[/?]", 2)[0];
  }

  /** The URL for one host; the kind of server stands in it, where {@link Connection#getMetaData} shows it. */
  private String urlOf(String host, String targetServerType) {
    String one = url.startsWith(BEFORE_HOSTS)
        ? BEFORE_HOSTS
            + host
            + url.substring(BEFORE_HOSTS.length() + authority().length())
        : url;
    if (targetServerType.equals("any") && !one.contains("targetServerType=")) {
      return one;
    }
    String without = one.replaceAll("(?<=[?&])targetServerType=[^&]*&?", "");
    return without
        + (without.endsWith("?") || without.endsWith("&") ? "" : without.contains("?") ? "&" : "?")
        + "targetServerType=" + targetServerType;
  }

  private Connection connect(
      String host, String targetServerType, Properties all, @Nullable Duration limit)
      throws SQLException {
    String one = urlOf(host, targetServerType);
    if (limit == null) {
      return connect(one, all);
    }
    try {
      return Cancellable.call(limit, () -> connect(one, all), failover.connecting(host));
    } catch (TimeoutException timeout) {
      throw new SQLTimeoutException("no connection" + (host.isEmpty() ? "" : " to " + host)
          + " within " + limit.toMillis() + " ms");
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new SQLException("interrupted while connecting", interrupted);
    } catch (SQLException | RuntimeException failure) {
      throw failure;
    } catch (Exception impossible) {
      throw new SQLException(impossible);
    }
  }

  private Connection connect(String one, Properties all) throws SQLException {
    Connection connection = tls == null ? DRIVER.connect(one, all) : connect(one, all, tls);
    if (connection == null) {
      throw new SQLException("not a Postgres URL");
    }
    try {
      if (settings(all).getProperty(PGProperty.PREPARE_THRESHOLD.getName()) == null) {
        prepareNothingBehindAPooler(connection);
      }
      return connection;
    } catch (Throwable failure) {
      connection.close();
      throw failure;
    }
  }

  private static Connection connect(String one, Properties all, SSLContext tls)
      throws SQLException {
    try {
      return GivenTls.with(tls, () -> DRIVER.connect(one, all));
    } catch (SQLException | RuntimeException failure) {
      throw failure;
    } catch (Exception impossible) {
      throw new SQLException(impossible);
    }
  }

  /**
   * A pooler such as PgBouncer may run each transaction on another server connection, which does not know what was
   * prepared on the one before. It is known by the process id of the session, which is not that of the server's
   * process.
   */
  private void prepareNothingBehindAPooler(Connection connection) throws SQLException {
    PGConnection driver = connection.unwrap(PGConnection.class);
    int server;
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT pg_backend_pid()")) {
      row.next();
      server = row.getInt(1);
    }
    if (server != driver.getBackendPID()) {
      driver.setPrepareThreshold(0);
      if (!poolerSeen.getAndSet(true)) {
        LOG.atInfo().log(
            "postgres: connected through a pooler, statements are not prepared on the server");
      }
    }
  }

  @Override
  public void setLoginTimeout(int seconds) {
    loginTimeoutSeconds = seconds;
  }

  @Override
  public int getLoginTimeout() {
    return loginTimeoutSeconds;
  }

  @Override
  public @Nullable PrintWriter getLogWriter() {
    return null;
  }

  @Override
  public void setLogWriter(@Nullable PrintWriter out) throws SQLException {
    throw new SQLFeatureNotSupportedException("the driver logs by java.util.logging");
  }

  @Override
  public Logger getParentLogger() {
    return DRIVER.getParentLogger();
  }

  @Override
  public <T> T unwrap(Class<T> type) throws SQLException {
    if (type.isInstance(this)) {
      return type.cast(this);
    }
    throw new SQLException("not a " + type.getName());
  }

  @Override
  public boolean isWrapperFor(Class<?> type) {
    return type.isInstance(this);
  }

  @Override
  public String toString() {
    return url;
  }
}
