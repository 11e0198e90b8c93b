package dev.evalops.runtime.postgres;

import java.net.NoRouteToHostException;
import java.net.SocketTimeoutException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Leaves a primary that does not answer when another has been found: a server that is stopped or cut off keeps its
 * connections, and who waits on one of them waits for ever, or for a login as long as that may take. Thread-safe.
 */
final class Failover {
  private static final Logger LOG = LoggerFactory.getLogger(Postgres.class);

  private final Map<Connection, String> hosts = Collections.synchronizedMap(new WeakHashMap<>());
  private final Set<Login> logins = ConcurrentHashMap.newKeySet();
  private final Set<String> silent = ConcurrentHashMap.newKeySet();
  private final Set<String> asked = ConcurrentHashMap.newKeySet();

  /** Opens a connection to a primary on a host, and closes it. */
  interface Check {
    void reach(String host) throws SQLException;
  }

  private static final class Login extends CompletableFuture<Connection> {
    private final String host;

    Login(String host) {
      this.host = host;
    }
  }

  /** Returns what is to get the connection, and fails if the host is left before that. */
  CompletableFuture<Connection> connecting(String host) {
    Login login = new Login(host);
    logins.add(login);
    var unused = login.whenComplete((connection, failure) -> logins.remove(login));
    return login;
  }

  void failed(String host, SQLException failure) {
    if (failure instanceof SQLTimeoutException
        || failure.getCause() instanceof SocketTimeoutException
        || failure.getCause() instanceof NoRouteToHostException) {
      silent.add(host);
    }
  }

  /** A primary was found. Where there are connections to another, that is asked whether it is still there. */
  void connected(String host, Connection connection, Check check) {
    silent.remove(host);
    hosts.put(connection, host);
    Set<String> others;
    synchronized (hosts) {
      hosts.keySet().removeIf(Failover::isClosed);
      others = new HashSet<>(hosts.values());
    }
    others.remove(host);
    for (String other : others) {
      if (silent.contains(other)) {
        leave(other, host);
      } else if (asked.add(other)) {
        Thread.ofVirtual().name("postgres-failover").start(() -> ask(other, host, check));
      }
    }
  }

  private static boolean isClosed(Connection connection) {
    try {
      return connection.isClosed();
    } catch (SQLException broken) {
      return true;
    }
  }

  private void ask(String other, String host, Check check) {
    try {
      check.reach(other);
    } catch (SQLException failure) {
      failed(other, failure);
      if (silent.contains(other)) {
        leave(other, host);
      }
    } finally {
      asked.remove(other);
    }
  }

  private void leave(String other, String host) {
    for (Login login : logins) {
      if (login.host.equals(other)) {
        login.completeExceptionally(new SQLTimeoutException(
            "no connection to " + other + ": it is silent, and the primary is " + host));
      }
    }
    List<Connection> left = new ArrayList<>();
    synchronized (hosts) {
      hosts.forEach((connection, leadsTo) -> {
        if (leadsTo.equals(other)) {
          left.add(connection);
        }
      });
      hosts.keySet().removeAll(left);
    }
    if (!left.isEmpty()) {
      LOG.atWarn()
          .addKeyValue("silent", other)
          .addKeyValue("primary", host)
          .addKeyValue("connections", left.size())
          .log("postgres: another primary found; connections to the silent server are cut");
    }
    for (Connection connection : left) {
      try {
        connection.abort(Runnable::run);
      } catch (SQLException alreadyBroken) {
        LOG.atDebug().setCause(alreadyBroken).log("postgres: connection not cut");
      }
    }
  }
}
