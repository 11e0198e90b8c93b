package dev.evalops.runtime.health;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.channels.SocketChannel;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * Ready-made checks. A dependency that may be null is one that a service may run without configuring: that is
 * reported, not refused. All are safe for use by several threads.
 */
public final class HealthChecks {
  /** As Hikari's own validation: the checker's timeout is what bounds the report. */
  private static final int VALIDATION_SECONDS = 5;

  /** What the URL of a connection says, also that of runtime-postgres. */
  private static final Pattern PRIMARY =
      Pattern.compile("[?&]targetServerType=(primary|master)\\b");

  private HealthChecks() {}

  /**
   * Takes a connection and makes one round trip ({@link Connection#isValid}). A pool that has no connection to
   * give within the checker's timeout is unhealthy; so is a server that is read-only ({@code postgres_read_only})
   * where the URL asks for a primary ({@code target_session_attrs=read-write}, {@code targetServerType=primary}),
   * which costs a second round trip.
   *
   * @param dataSource the pool, or null, which is reported as {@code postgres_not_configured}
   * @return the check
   */
  public static HealthCheck postgres(@Nullable DataSource dataSource) {
    if (dataSource == null) {
      return notConfigured("postgres_not_configured");
    }
    return () -> {
      try (Connection connection = dataSource.getConnection()) {
        if (!connection.isValid(VALIDATION_SECONDS)) {
          throw new SQLException("the connection is not valid");
        }
        String url = connection.getMetaData().getURL();
        if (url != null && PRIMARY.matcher(url).find() && isReadOnly(connection)) {
          throw new UnhealthyException("postgres_read_only");
        }
      }
    };
  }

  private static boolean isReadOnly(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SHOW transaction_read_only")) {
      return row.next() && row.getString(1).equals("on");
    }
  }

  /**
   * Gets a URL, which must answer with a status from 200 to 299, else {@code unexpected_status: <n>}. The body is
   * not read.
   *
   * @param client the client; must not follow redirects, because the login page at their end would count as healthy
   * @param uri an absolute http or https URL; null or anything else is reported as {@code http_url_required}
   * @return the check
   * @throws IllegalArgumentException if the client follows redirects
   */
  public static HealthCheck http(HttpClient client, @Nullable URI uri) {
    if (client.followRedirects() != HttpClient.Redirect.NEVER) {
      throw new IllegalArgumentException(
          "client follows redirects, and a login page would count as healthy: build it with Redirect.NEVER");
    }
    if (uri == null || uri.getHost() == null || !isHttp(uri.getScheme())) {
      return notConfigured("http_url_required");
    }
    HttpRequest request = HttpRequest.newBuilder(uri).build();
    return () -> {
      HttpResponse<InputStream> response = client.send(request, BodyHandlers.ofInputStream());
      response.body().close();
      if (response.statusCode() / 100 != 2) {
        throw new UnhealthyException("unexpected_status: " + response.statusCode());
      }
    };
  }

  private static boolean isHttp(@Nullable String scheme) {
    return "http".equalsIgnoreCase(scheme) || "https".equalsIgnoreCase(scheme);
  }

  /**
   * Opens a TCP connection and closes it. The name is resolved at each check.
   *
   * @param host name or address
   * @param port 1 to 65535
   * @return the check
   * @throws IllegalArgumentException if the host is blank or the port out of range
   */
  public static HealthCheck tcp(String host, int port) {
    if (host.isBlank()) {
      throw new IllegalArgumentException("host must not be blank");
    }
    if (port < 1 || port > 65535) {
      throw new IllegalArgumentException("port must be from 1 to 65535: " + port);
    }
    return () -> connect(new InetSocketAddress(host, port));
  }

  private static void connect(InetSocketAddress address) throws IOException {
    if (address.isUnresolved()) {
      throw new UnknownHostException(address.getHostString());
    }
    // Unlike a Socket, a channel gives up when its thread is interrupted.
    SocketChannel.open(address).close();
  }

  /**
   * A check of a client that says whether it is alive: anything but {@code true} is unhealthy.
   *
   * @param ping asks the dependency, or null, which is reported as {@code dependency_not_configured}
   * @return the check
   */
  public static HealthCheck ping(@Nullable Callable<Boolean> ping) {
    if (ping == null) {
      return notConfigured("dependency_not_configured");
    }
    return () -> {
      if (!Objects.equals(ping.call(), true)) {
        throw new IOException("the ping was not answered with true");
      }
    };
  }

  private static HealthCheck notConfigured(String text) {
    return () -> {
      throw new UnhealthyException(text);
    };
  }
}
