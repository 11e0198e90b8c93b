package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.startup.Rotation;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.postgresql.PGProperty;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Opens a connection pool on a Postgres that may not be up yet: waits for a server that refuses connections, is
 * starting, is full or has no DNS name yet. Permanent failures (bad password, unknown role or database, TLS refused,
 * bad URL) are not retried.
 *
 * <pre>{@code
 * HikariDataSource db = Postgres.builder(databaseUrl)
 *     .configure(pool -> pool.setMaximumPoolSize(20))
 *     .init(NotesSchema::apply)
 *     .open();
 * }</pre>
 *
 * <p>The URL is that of libpq, as services have it in {@code DATABASE_URL}, {@code
 * postgres://user:pass@host1:5432,host2:5433/database?sslmode=verify-full&search_path=x} (every part percent-encoded; a
 * plus sign is itself), or a URL of the JDBC driver ({@code jdbc:postgresql:}). An unknown parameter is an error. No
 * log line and no exception holds a password.
 */
public final class Postgres {
  private static final Logger LOG = LoggerFactory.getLogger(Postgres.class);

  /** Fails, with a message, on a server that does not write. */
  private static final String IS_PRIMARY =
      "SELECT replace(current_setting('transaction_read_only'), 'on', 'this server is read-only')::boolean";

  /** Those that never come down to plain text. */
  private static final List<String> TLS_MODES = List.of("require", "verify-ca", "verify-full");

  /** What would take another way to TLS, and a time limit that takes another thread than the one that connects. */
  private static final List<PGProperty> OTHER_TLS = List.of(
      PGProperty.SSL,
      PGProperty.SSL_FACTORY,
      PGProperty.SSL_ROOT_CERT,
      PGProperty.SSL_CERT,
      PGProperty.SSL_KEY,
      PGProperty.LOGIN_TIMEOUT);

  private Postgres() {}

  /**
   * Opens a pool with the defaults of {@link #builder}.
   *
   * @param url the database URL; null, as of an environment variable that is not set, is refused by {@code open}
   * @return a pool whose database has answered; the caller closes it
   * @throws IllegalArgumentException if the URL is wrong; names every problem ({@code open_postgres: ...}) and no value
   * @throws StartupException if the database does not come up, or refuses the connection
   */
  public static HikariDataSource open(@Nullable String url) {
    return builder(url).open();
  }

  /**
   * Returns a builder.
   *
   * @param url the database URL; null, as of an environment variable that is not set, is refused by {@code open}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String url) {
    return new Builder(url);
  }

  /** Makes a connection beside those of the pool. */
  static Connection connect(HikariConfig config) throws SQLException {
    com.zaxxer.hikari.util.Credentials credentials = config.getCredentialsProvider() == null
        ? config.getCredentials()
        : config.getCredentialsProvider().getCredentials();
    return credentials.getUsername() == null
        ? config.getDataSource().getConnection()
        : config
            .getDataSource()
            .getConnection(credentials.getUsername(), credentials.getPassword());
  }

  /** What a service does with its database before it serves, such as creating its tables. */
  @FunctionalInterface
  public interface Init {
    /**
     * Runs in a transaction that is committed afterwards, or rolled back when this throws. It may run again after a
     * failure. After a statement that fails, Postgres takes no others and no commit, unless this goes back to a
     * savepoint: opening fails then, too.
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
    private Duration rotationTimeout = Duration.ofMinutes(1);
    private @Nullable Supplier<Credentials> credentials;
    private @Nullable SSLContext tls;
    private @Nullable Init init;
    private Retry retry = Retry.builder()
        .onFailedAttempt(attempt -> {
          if (attempt.nextDelay().isPresent()) { // the last one is thrown
            LOG.atWarn().log("postgres: {}", attempt);
          }
        })
        .build();

    private Builder(@Nullable String url) {
      this.url = Objects.requireNonNullElse(url, "");
    }

    /**
     * Changes the pool's settings; called once by {@link #open}, after the URL's own settings. Driver settings go
     * through {@link HikariConfig#addDataSourceProperty}, by the driver's names; the data source may be replaced by one
     * that wraps it.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super HikariConfig> change) {
      configure.add(Objects.requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Logs in with the credentials of a supplier, which may change (default: those of the URL; with a supplier the URL
     * must have neither user nor password). The supplier is called at each login, and once more if a login is refused.
     * When the credentials change, connections from before are retired {@linkplain #rotationTimeout within a minute},
     * after a login with the new credentials has succeeded.
     *
     * <p>If the supplier throws, returns null or takes more than 5 s, the login fails; open connections stay. After the
     * first good login a refused login counts as a failure that may pass.
     *
     * @param credentials such as {@link Credentials#fromFile}; called on threads of the pool, one call at a time
     * @return this
     */
    public Builder credentials(Supplier<Credentials> credentials) {
      this.credentials = Objects.requireNonNull(credentials, "credentials");
      return this;
    }

    /**
     * Connects with TLS of this context, such as that of {@code ClientTls} of runtime-mtls (default: with the files and
     * the {@code sslmode} of the URL). Without {@code sslmode} in the URL the mode is {@code verify-full}. The modes
     * {@code require} and {@code verify-ca} leave the check of the server's name to the context, which a context with a
     * server name of its own needs.
     *
     * <p>When {@link SSLContext#getClientSessionContext} returns another object, as that of a {@code ClientTls} does
     * after its files have changed, connections from before are retired {@linkplain #rotationTimeout within a minute}.
     *
     * @param context the context
     * @return this
     */
    public Builder tls(SSLContext context) {
      this.tls = Objects.requireNonNull(context, "tls");
      return this;
    }

    /**
     * Sets the time in which the connections from before a change of {@linkplain #credentials credentials} or
     * {@linkplain #tls certificates} are retired (1 minute); those in use are retired when they are given back. Changes
     * are checked for six times in this time, and the connections are replaced one after the other over half of it.
     *
     * @param time more than zero
     * @return this
     */
    public Builder rotationTimeout(Duration time) {
      this.rotationTimeout = Objects.requireNonNull(time, "rotationTimeout");
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
     * Sets how often to try (30 times, 2 s apart; each failed attempt is logged as a warning, except the last, which is
     * thrown). Permanent failures (such as a wrong password) are not retried.
     *
     * @param retry attempts and delays; its own rules to stop still apply
     * @return this
     */
    public Builder retry(Retry retry) {
      this.retry = Objects.requireNonNull(retry, "retry");
      return this;
    }

    /**
     * Runs this in a transaction after a good ping. If it fails, the attempt has failed: a failure that may pass is
     * retried from the ping on, a permanent one (bad SQL, missing permission) is not. The ping timeout does not limit
     * it; a {@code statement_timeout} does.
     *
     * @param init what to do
     * @return this
     */
    public Builder init(Init init) {
      this.init = Objects.requireNonNull(init, "init");
      return this;
    }

    /**
     * Opens the pool. If it gives up or is interrupted, the pool is closed and none of its threads is left.
     *
     * @return a pool whose database has answered and has been initialised; the caller closes it
     * @throws IllegalArgumentException if the URL or a setting is wrong; names every problem ({@code open_postgres:
     *     ...}) and no value
     * @throws StartupException if the database does not come up, or refuses the connection; the message says why
     *     ({@code ... ping_postgres: ...} or {@code ... open_postgres: ...})
     */
    public HikariDataSource open() {
      List<String> problems = new ArrayList<>();
      if (!pingTimeout.isPositive()) {
        problems.add("pingTimeout must be more than zero: " + pingTimeout);
      }
      if (!rotationTimeout.isPositive()) {
        problems.add("rotationTimeout must be more than zero: " + rotationTimeout);
      }
      PostgresUrl parsed;
      try {
        parsed = PostgresUrl.parse(url);
      } catch (IllegalArgumentException e) {
        problems.addFirst(String.valueOf(e.getMessage()));
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      Rotation<Secret> rotation =
          credentials == null && tls == null ? null : Rotation.of("postgres", this::secret);
      PgDataSource driver =
          new PgDataSource(parsed.jdbcUrl(), parsed.properties(), pingTimeout(), tls, rotation);
      HikariConfig config = config(parsed, driver, problems);
      return retry.stopWhen(Failures::permanent).call(() -> attempt(config, driver, rotation));
    }

    private Secret secret() {
      return new Secret(
          credentials == null ? null : Objects.requireNonNull(credentials.get(), "credentials"),
          tls == null ? null : tls.getClientSessionContext());
    }

    private List<String> problems(HikariConfig config, PostgresUrl parsed, PgDataSource driver) {
      List<String> problems = new ArrayList<>();
      if (credentials != null
          && (parsed.user() != null
              || parsed.password() != null
              || config.getUsername() != null
              || config.getPassword() != null
              || config.getCredentialsProvider() != null)) {
        problems.add("credentials are given: the URL and configure must not have user or password");
      }
      if (tls != null) {
        String mode = driver.setting(PGProperty.SSL_MODE);
        if (mode != null && !TLS_MODES.contains(mode)) {
          problems.add("tls is given: sslmode must be one of " + TLS_MODES);
        }
        for (PGProperty property : OTHER_TLS) {
          if (driver.setting(property) != null) {
            problems.add("tls is given: " + property.getName() + " must not be");
          }
        }
      }
      return problems;
    }

    private HikariConfig config(PostgresUrl parsed, PgDataSource driver, List<String> problems) {
      Properties properties = parsed.properties();
      HikariConfig config = new HikariConfig();
      config.setPoolName(parsed.applicationName() == null ? "postgres" : parsed.applicationName());
      config.setDataSource(driver);
      config.setUsername(parsed.user());
      config.setPassword(parsed.password());
      config.setConnectionTimeout(Duration.ofSeconds(10).toMillis());
      parsed.applyTo(config);
      configure.forEach(change -> change.accept(config));

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
        Optional.ofNullable(PGProperty.forName(name.toString()))
            .flatMap(property -> PostgresUrl.problem(property, value.toString()))
            .ifPresent(problem -> problems.add("configure: " + problem));
        properties.setProperty(name.toString(), value.toString());
      });
      if (config.getMinimumIdle() > config.getMaximumPoolSize()) { // which the pool lowers silently
        problems.add(
            "pool_min_conns (minimumIdle) must be at most pool_max_conns (maximumPoolSize), "
                + config.getMaximumPoolSize() + ": " + config.getMinimumIdle());
      }
      problems.addAll(problems(config, parsed, driver));
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException("open_postgres: " + String.join("; ", problems));
      }
      config.getDataSourceProperties().clear(); // the pool would log them
      if (tls != null) {
        if (driver.setting(PGProperty.SSL_MODE) == null) {
          properties.setProperty(PGProperty.SSL_MODE.getName(), "verify-full");
        }
        properties.setProperty(PGProperty.SSL_FACTORY.getName(), GivenTls.Factory.class.getName());
        // Else that of the process would have the driver connect on another thread than ours.
        properties.setProperty(PGProperty.LOGIN_TIMEOUT.getName(), "0");
      }
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

    private HikariDataSource attempt(
        HikariConfig config, PgDataSource driver, @Nullable Rotation<Secret> rotation)
        throws SQLException, InterruptedException {
      ping(config);
      ConnectionPool pool = null;
      try {
        pool = new ConnectionPool(config);
        initialise(pool);
        if (canFailOver(config.getDataSource())) {
          pool.findPrimaryWith(() -> pinged(config));
        }
        if (rotation != null) {
          pool.renewWith(rotation, driver, rotationTimeout);
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
      Connection connection = connect(config);
      try {
        select1(connection);
        return connection;
      } catch (Throwable failure) {
        connection.close();
        throw failure;
      }
    }

    private static void select1(Connection connection) throws SQLException {
      try (Statement statement = connection.createStatement()) {
        statement.execute("SELECT 1");
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
          // Refused if a statement has failed: the commit would be a rollback, without a word.
          select1(connection);
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
