package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.util.Credentials;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Opens a connection pool on a Postgres that may not be up yet: waits for a server that refuses, starts, is full or has no DNS
 * name yet, and stops at once where waiting is no use (bad password, unknown role or database, TLS refused, bad URL).
 *
 * <pre>{@code
 * HikariDataSource db = Postgres.builder(databaseUrl)
 *     .configure(pool -> pool.setMaximumPoolSize(20))
 *     .init(NotesSchema::apply)
 *     .open();
 * }</pre>
 *
 * <p>The URL is what services have in {@code DATABASE_URL}: {@code postgres://user:pass@host1:5432,host2:5433/database?sslmode=
 * verify-full&search_path=x} as libpq reads it (every part percent-encoded; a plus sign is itself), or a URL of the JDBC driver
 * ({@code jdbc:postgresql:}). An unknown parameter is an error. Nothing here logs or throws a password.
 */
public final class Postgres {
  private static final Logger LOG = LoggerFactory.getLogger(Postgres.class);

  /** Fails, with a message, on a server that does not write. */
  private static final String IS_PRIMARY =
      "SELECT replace(current_setting('transaction_read_only'), 'on', 'this server is read-only')::boolean";

  private Postgres() {}

  /**
   * Opens a pool with the defaults of {@link #builder}.
   *
   * @param url the database URL
   * @return a pool whose database has answered; the caller closes it
   * @throws IllegalArgumentException if the URL is wrong; names every problem ({@code open_postgres: ...}) and no value
   * @throws StartupException if the database does not come up, or refuses
   */
  public static HikariDataSource open(String url) {
    return builder(url).open();
  }

  /**
   * Returns a builder.
   *
   * @param url the database URL
   * @return a builder with the defaults
   */
  public static Builder builder(String url) {
    return new Builder(url);
  }

  /** What a service does with its database before it serves, such as making its tables. */
  @FunctionalInterface
  public interface Init {
    /**
     * Runs in a transaction that is committed afterwards, or rolled back when this throws. It may run again after a failure.
     *
     * @param connection a connection of the pool, with auto-commit off; closed by the caller
     * @throws SQLException if the database refuses
     */
    void apply(Connection connection) throws SQLException;
  }

  /** Describes a pool. Not thread-safe. */
  public static final class Builder {
    private final String url;
    private final List<Consumer<? super HikariConfig>> configure = new ArrayList<>();
    private Duration pingTimeout = Duration.ofSeconds(5);
    private @Nullable Init init;
    private Retry retry = Retry.builder()
        .onFailedAttempt(attempt -> {
          if (attempt.nextDelay().isPresent()) { // the last one is thrown
            LOG.atWarn().log("postgres: {}", attempt);
          }
        })
        .build();

    private Builder(String url) {
      this.url = Objects.requireNonNull(url, "url");
    }

    /**
     * Changes the pool's settings; called once by {@link #open}, after the URL's own settings. Driver settings go through {@link
     * HikariConfig#addDataSourceProperty}, by the driver's names; the data source may be replaced by one that wraps it.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super HikariConfig> change) {
      configure.add(Objects.requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Limits each attempt to connect and run a first statement (5 s).
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder pingTimeout(Duration timeout) {
      this.pingTimeout = Objects.requireNonNull(timeout, "pingTimeout");
      return this;
    }

    /**
     * Sets how often to try (30 times, 2 s apart, each failed attempt but the last, which is thrown, logged as a warning).
     * Permanent failures (such as a wrong password) are not retried.
     *
     * @param retry attempts and delays; its own rules stay
     * @return this
     */
    public Builder retry(Retry retry) {
      this.retry = Objects.requireNonNull(retry, "retry");
      return this;
    }

    /**
     * Runs this after a good ping, in one transaction. Its failure counts as that of the attempt: what can pass is tried again from the
     * ping, what cannot (bad SQL, missing permission) stops at once. The ping timeout does not limit it; a {@code
     * statement_timeout} does.
     *
     * @param init what to do
     * @return this
     */
    public Builder init(Init init) {
      this.init = Objects.requireNonNull(init, "init");
      return this;
    }

    /**
     * Opens the pool. On giving up, or when interrupted, the pool is closed and none of its threads is left.
     *
     * @return a pool whose database has answered and has been initialised; the caller closes it
     * @throws IllegalArgumentException if the URL or a setting is wrong; names every problem ({@code open_postgres: ...}) and no value
     * @throws StartupException if the database does not come up, or refuses; the message says why ({@code ... ping_postgres: ...} or
     *     {@code ... open_postgres: ...})
     */
    public HikariDataSource open() {
      if (!pingTimeout.isPositive()) {
        throw new IllegalArgumentException(
            "open_postgres: pingTimeout must be more than zero: " + pingTimeout);
      }
      HikariConfig config = config(PostgresUrl.parse(url));
      return retry.stopWhen(Failures::permanent).call(() -> attempt(config));
    }

    private HikariConfig config(PostgresUrl parsed) {
      Properties properties = parsed.properties();
      HikariConfig config = new HikariConfig();
      config.setPoolName(parsed.applicationName() == null ? "postgres" : parsed.applicationName());
      PgDataSource driver = new PgDataSource(parsed.jdbcUrl(), properties, pingTimeout());
      config.setDataSource(driver);
      config.setUsername(parsed.user());
      config.setPassword(parsed.password());
      config.setConnectionTimeout(Duration.ofSeconds(10).toMillis());
      parsed.applyTo(config);
      configure.forEach(change -> change.accept(config));

      List<String> problems = new ArrayList<>();
      if (config.getJdbcUrl() != null
          || config.getDataSourceClassName() != null
          || config.getDataSource() == null) {
        problems.add(
            "configure must not set another URL or data source: the database is the one of the URL given first");
      }
      config.getDataSourceProperties().forEach((name, value) -> {
        if (!PostgresUrl.isSetting(
            name.toString(), config.getDataSourceProperties(), parsed.jdbcUrl())) {
          problems.add("configure: the driver has no property \"" + name + "\"");
        }
        properties.setProperty(name.toString(), value.toString());
      });
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException("open_postgres: " + String.join("; ", problems));
      }
      config.getDataSourceProperties().clear(); // the pool would log them
      properties.putIfAbsent("ApplicationName", config.getPoolName());
      properties.putIfAbsent("tcpKeepAlive", "true");
      properties.putIfAbsent("hostRecheckSeconds", "0"); // a new primary is found at once
      if (config.getExceptionOverride() == null && config.getExceptionOverrideClassName() == null) {
        config.setExceptionOverride(new Eviction());
      }
      if (driver.wantsPrimary()
          && !config.isReadOnly()
          && config.getConnectionTestQuery() == null) {
        config.setConnectionTestQuery(IS_PRIMARY);
        config.setIsolateInternalQueries(true);
      }
      if (config.getUsername() == null && config.getPassword() != null) {
        config.setUsername(System.getProperty("user.name"));
      }
      return config;
    }

    /** As nanoseconds, the longest there are instead of an overflow. */
    private Duration pingTimeout() {
      return Duration.ofNanos(TimeUnit.NANOSECONDS.convert(pingTimeout));
    }

    private HikariDataSource attempt(HikariConfig config)
        throws SQLException, InterruptedException {
      ping(config);
      ConnectionPool pool = null;
      try {
        pool = new ConnectionPool(config);
        initialise(pool);
        if (canFailOver(config.getDataSource())) {
          pool.findPrimaryWith(() -> pinged(config));
        }
        return pool;
      } catch (Throwable failure) {
        boolean interrupted =
            Thread
                .interrupted(); // a pool closed by an interrupted thread leaves its threads behind
        if (pool != null) {
          pool.close();
        }
        if (interrupted) {
          throw new InterruptedException("interrupted while opening the pool");
        }
        if (failure instanceof Error error) {
          throw error;
        }
        throw Failures.of("open_postgres: ", failure);
      }
    }

    private static boolean canFailOver(DataSource source) throws SQLException {
      return source.isWrapperFor(PgDataSource.class)
          && source.unwrap(PgDataSource.class).canFailOver();
    }

    private void ping(HikariConfig config) throws SQLException, InterruptedException {
      try {
        config.getDataSource().setLoginTimeout(0); // a pool of an earlier attempt may have set one
        Cancellable.call(pingTimeout(), () -> pinged(config)).close();
      } catch (InterruptedException interrupted) {
        throw interrupted;
      } catch (TimeoutException timeout) {
        throw new SQLTimeoutException(
            "ping_postgres: no answer within " + pingTimeout.toMillis() + " ms", timeout);
      } catch (Exception failure) {
        throw Failures.of("ping_postgres: ", failure);
      }
    }

    private static Connection pinged(HikariConfig config) throws SQLException {
      Credentials credentials = config.getCredentialsProvider() == null
          ? config.getCredentials()
          : config.getCredentialsProvider().getCredentials();
      Connection connection = credentials.getUsername() == null
          ? config.getDataSource().getConnection()
          : config
              .getDataSource()
              .getConnection(credentials.getUsername(), credentials.getPassword());
      try (Statement statement = connection.createStatement()) {
        statement.execute("SELECT 1");
        return connection;
      } catch (Throwable failure) {
        connection.close();
        throw failure;
      }
    }

    private void initialise(HikariDataSource pool) throws SQLException {
      if (init == null) {
        return;
      }
      try (Connection connection = pool.getConnection()) {
        connection.setAutoCommit(false);
        try {
          init.apply(connection);
          connection.commit();
        } catch (Throwable failure) {
          try {
            connection.rollback();
          } catch (SQLException alreadyBroken) {
            failure.addSuppressed(alreadyBroken);
          }
          throw failure;
        }
      }
    }
  }
}
