package dev.evalops.runtime.changejournal;

import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Map;
import java.util.Properties;
import javax.sql.DataSource;

/** Connections with a transaction. */
final class Tx {
  static final ChangeActor ACTOR = new ChangeActor("user", "u-1", "org-1");

  private Tx() {}

  static Connection begin(DataSource db) throws SQLException {
    Connection connection = db.getConnection();
    connection.setAutoCommit(false);
    return connection;
  }

  /** Outside the pool, with properties of the driver. */
  static Connection begin(HikariDataSource db, String url, Map<String, String> properties)
      throws SQLException {
    Properties all = new Properties();
    all.putAll(db.getDataSourceProperties());
    all.putAll(properties);
    Connection connection = DriverManager.getConnection(url, all);
    connection.setAutoCommit(false);
    return connection;
  }
}
