package dev.evalops.examples.notes;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.PostgresPair;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.lettuce.core.AclSetuserArgs;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisConnectionException;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import java.io.IOException;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Pattern;

/** The one login of the services at clusters of Postgres, NATS and Redis; its password can be replaced. */
final class Logins implements AutoCloseable {
  private static final String USER = "notes";
  private static final Pattern AGE = Pattern.compile("(?m)^.* age=(\\d+) .* user=" + USER + " ");

  private final Path folder;
  private final PostgresPair postgres;
  private final NatsCluster nats;
  private final RedisServers redis;
  private final HikariDataSource db;
  private String password = "";
  private long replacedAt;

  Logins(Path folder, PostgresPair postgres, NatsCluster nats, RedisServers redis)
      throws Exception {
    this.folder = folder;
    this.postgres = postgres;
    this.nats = nats;
    this.redis = redis;
    this.db = Postgres.open(postgres.url());
    sql("CREATE ROLE " + USER + " LOGIN", "GRANT ALL ON SCHEMA public TO " + USER);
    replace();
  }

  /** Where the servers are and how to log in, for a service. */
  Map<String, String> environment() {
    return Map.ofEntries(
        Map.entry("DATABASE_URL", postgres.url().replaceFirst("//[^@]*@", "//")),
        Map.entry("DATABASE_USER", USER),
        Map.entry("DATABASE_PASSWORD_FILE", file("postgres").toString()),
        Map.entry("NATS_URL", nats.url()),
        Map.entry("NATS_USER", USER),
        Map.entry("NATS_PASSWORD_FILE", file("nats").toString()),
        Map.entry("REDIS_URL", redis.url()),
        Map.entry("REDIS_USER", USER),
        Map.entry("REDIS_PASSWORD_FILE", file("redis").toString()));
  }

  String user() {
    return USER;
  }

  String password() {
    return password;
  }

  private Path file(String of) {
    return folder.resolve(of + ".password");
  }

  /** Puts a new password in the place of the old one, which no server takes any more. */
  void replace() throws SQLException, IOException {
    password = UUID.randomUUID().toString();
    replacedAt = System.nanoTime();
    sql("ALTER ROLE " + USER + " PASSWORD '" + password + "'");
    Certificates.replace(file("postgres"), password);
    Certificates.replace(file("nats"), password);
    nats.requireLogin(USER, password);
    tellRedis();
    Certificates.replace(file("redis"), password);
  }

  /** Again to servers that were started again, which have forgotten it. */
  void tellRedis() {
    for (RedisServer server : redis.servers()) {
      try (Admin admin = new Admin(server)) {
        admin
            .commands()
            .aclSetuser(
                USER,
                AclSetuserArgs.Builder.on()
                    .resetpass()
                    .addPassword(password)
                    .allKeys()
                    .allChannels()
                    .allCommands());
      } catch (RedisConnectionException e) {
        // it is not up; who starts it again tells it
      }
    }
  }

  /** The connections to Postgres and Redis that are older than the password; NATS ends such ones itself. */
  List<String> older() throws SQLException {
    long seconds = Duration.ofNanos(System.nanoTime() - replacedAt).toSeconds();
    List<String> older = new ArrayList<>();
    try (Connection connection = db.getConnection();
        PreparedStatement select = connection.prepareStatement(
            "SELECT state, backend_start, query FROM pg_stat_activity WHERE usename = '" + USER
                + "' AND backend_start < now() - ? * interval '1 second'")) {
      select.setLong(1, seconds + 1);
      try (ResultSet row = select.executeQuery()) {
        while (row.next()) {
          older.add(
              "postgres " + row.getString(1) + " " + row.getString(2) + " " + row.getString(3));
        }
      }
    }
    for (RedisServer server : redis.servers()) {
      try (Admin admin = new Admin(server)) {
        AGE.matcher(admin.commands().clientList())
            .results()
            .filter(age -> Long.parseLong(age.group(1)) > seconds)
            .forEach(age -> older.add(server.url() + " " + age.group()));
      }
    }
    return older;
  }

  private void sql(String... statements) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      for (String each : statements) {
        statement.execute(each);
      }
    }
  }

  @Override
  public void close() {
    db.close();
  }

  private static final class Admin implements AutoCloseable {
    private final RedisClient client;
    private final StatefulRedisConnection<String, String> connection;

    Admin(RedisServer server) {
      client = RedisClient.create(server.url());
      try {
        connection = client.connect();
      } catch (RuntimeException e) {
        client.shutdown();
        throw e;
      }
    }

    RedisCommands<String, String> commands() {
      return connection.sync();
    }

    @Override
    public void close() {
      client.shutdown();
    }
  }
}
