package dev.evalops.runtime.postgres;

import java.io.PrintWriter;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.SQLTimeoutException;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.TimeoutException;
import java.util.logging.Logger;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.postgresql.Driver;

/**
 * Connects by the driver itself, and not by {@link java.sql.DriverManager}, whose login timeout is one for the whole process.
 * Secrets stand in the properties, so that the URL can be printed.
 */
final class PgDataSource implements DataSource {
  private static final Driver DRIVER = new Driver();

  private final String url;
  private final Properties properties;
  private volatile int loginTimeoutSeconds;

  PgDataSource(String url, Properties properties) {
    this.url = url;
    this.properties = properties;
  }

  static boolean accepts(String url) {
    return DRIVER.acceptsURL(url);
  }

  @Override
  public Connection getConnection() throws SQLException {
    return getConnection(null, null);
  }

  @Override
  public Connection getConnection(@Nullable String user, @Nullable String password)
      throws SQLException {
    Properties all = new Properties();
    all.putAll(properties);
    if (user != null) {
      all.setProperty("user", user);
    }
    if (password != null) {
      all.setProperty("password", password);
    }
    if (loginTimeoutSeconds <= 0) {
      return connect(all);
    }
    try {
      return Cancellable.call(Duration.ofSeconds(loginTimeoutSeconds), () -> connect(all));
    } catch (TimeoutException timeout) {
      throw new SQLTimeoutException("no connection within " + loginTimeoutSeconds + " s", timeout);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new SQLException("interrupted while connecting", interrupted);
    } catch (SQLException | RuntimeException failure) {
      throw failure;
    } catch (Exception impossible) {
      throw new SQLException(impossible);
    }
  }

  private Connection connect(Properties all) throws SQLException {
    Connection connection = DRIVER.connect(url, all);
    if (connection == null) {
      throw new SQLException("not a Postgres URL");
    }
    return connection;
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
