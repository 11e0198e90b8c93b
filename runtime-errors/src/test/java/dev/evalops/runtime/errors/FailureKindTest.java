package dev.evalops.runtime.errors;

import static dev.evalops.runtime.errors.FailureKind.INTERNAL;
import static dev.evalops.runtime.errors.FailureKind.PERMANENT;
import static dev.evalops.runtime.errors.FailureKind.UNAVAILABLE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.lettuce.core.RedisBusyException;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisCommandTimeoutException;
import io.lettuce.core.RedisConnectionException;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisLoadingException;
import io.nats.client.AuthenticationException;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.ApiResponse;
import io.nats.client.support.JsonParser;
import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.BindException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStoreException;
import java.security.cert.CertificateException;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.sql.SQLTransientConnectionException;
import java.time.Duration;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import javax.crypto.AEADBadTagException;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLHandshakeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLState;

class FailureKindTest {

  @ParameterizedTest
  @ValueSource(
      strings = {
        "08000", "08001", "08003", "08006", "08007", "08P01", "25006", "25P03", "25P04", "40001",
        "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P02", "57P03"
      })
  void aStateThatCanPassIsUnavailable(String state) {
    assertThat(FailureKind.of(new SQLException("x", state))).isEqualTo(UNAVAILABLE);
  }

  @ParameterizedTest
  @ValueSource(strings = {"28000", "28P01", "3D000", "08004"})
  void aStateThatRefusesTheConnectionIsPermanent(String state) {
    assertThat(FailureKind.of(new SQLException("x", state))).isEqualTo(PERMANENT);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "22001", "22P02", "23505", "23503", "25001", "25P02", "42501", "42601", "42P01", "42P05",
        "0A000", "3F000", "XX000", "", "5", "53"
      })
  void everyOtherStateIsInternal(String state) {
    assertThat(FailureKind.of(new SQLException("x", state))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new SQLException("x"))).isEqualTo(INTERNAL);
  }

  @Test
  void aStatementThatWasPreparedBeforeItsTableWasChangedMaySucceedTheNextTime() {
    assertThat(FailureKind.of(
            new SQLException("ERROR: cached plan must not change result type", "0A000")))
        .isEqualTo(UNAVAILABLE);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      FATAL: password authentication failed                    | PERMANENT
      FATAL: SASL authentication failed                        | PERMANENT
      FATAL: no such database: nope                            | PERMANENT
      FATAL: no such user: nope                                | PERMANENT
      FATAL: unsupported startup parameter: jit                | PERMANENT
      FATAL: unsupported startup parameter in options: jit     | PERMANENT
      FATAL: transaction blocks not allowed in statement pooling mode | PERMANENT
      FATAL: query_wait_timeout                                | UNAVAILABLE
      FATAL: server_login_retry                                | UNAVAILABLE
      FATAL: client_login_timeout (server down)                | UNAVAILABLE
      FATAL: no more connections allowed (max_client_conn)     | UNAVAILABLE
      FATAL: pgbouncer cannot connect to server                | UNAVAILABLE
      FATAL: the database system is shutting down              | UNAVAILABLE
      """)
  void tellsTheRefusalsOfPgBouncerFromItsOutages(String message, FailureKind expected) {
    assertThat(FailureKind.of(new SQLException(message, "08P01"))).isEqualTo(expected);
  }

  @Test
  void theDriversOwnConnectionFailureIsPermanentUnlessTheConnectionBroke() {
    assertThat(FailureKind.of(new PSQLException(
            "The hostname db could not be verified.", PSQLState.CONNECTION_FAILURE)))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(new PSQLException(
            "Could not open SSL root certificate file.",
            PSQLState.CONNECTION_FAILURE,
            new FileNotFoundException("ca.pem"))))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(new PSQLException(
            "An I/O error occurred.", PSQLState.CONNECTION_FAILURE, new EOFException())))
        .isEqualTo(UNAVAILABLE);
  }

  @Test
  void aPoolThatIsExhaustedOrClosedIsUnavailable() throws Exception {
    SQLException timeout =
        new SQLTransientConnectionException("notes - Connection is not available");
    assertThat(FailureKind.of(timeout)).isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(new SQLTimeoutException("ping_postgres: no answer within 5000 ms")))
        .isEqualTo(UNAVAILABLE);

    HikariConfig config = new HikariConfig();
    config.setJdbcUrl("jdbc:postgresql://localhost:1/x");
    config.setInitializationFailTimeout(-1);
    config.setConnectionTimeout(250);
    HikariDataSource pool = new HikariDataSource(config);
    assertThat(FailureKind.of(catchThrowable(pool::getConnection))).isEqualTo(UNAVAILABLE);
    pool.close();
    assertThat(FailureKind.of(catchThrowable(pool::getConnection))).isEqualTo(UNAVAILABLE);
  }

  /** What HikariCP says to who uses a connection, as for a rollback, after it was lost. */
  @Test
  void aConnectionThatThePoolHasClosedIsUnavailable() {
    assertThat(FailureKind.of(new SQLException("Connection is closed"))).isEqualTo(UNAVAILABLE);
  }

  @Test
  void aRefusalInsideAPoolsTimeoutIsPermanent() {
    SQLException refused = new SQLException("FATAL: password authentication failed", "28P01");
    assertThat(FailureKind.of(new SQLTransientConnectionException("x", "28P01", refused)))
        .isEqualTo(PERMANENT);
  }

  @Test
  void nobodyListens() throws Exception {
    int port = freePort();
    assertThat(FailureKind.of(catchThrowable(
            () -> DriverManager.getConnection("jdbc:postgresql://localhost:" + port + "/x"))))
        .isEqualTo(UNAVAILABLE);
    RedisClient redis = RedisClient.create("redis://localhost:" + port);
    assertThat(FailureKind.of(catchThrowable(redis::connect))).isEqualTo(UNAVAILABLE);
    redis.shutdown(Duration.ZERO, Duration.ofSeconds(1));
    Options options =
        Options.builder().server("nats://localhost:" + port).noReconnect().build();
    assertThat(FailureKind.of(catchThrowable(() -> Nats.connect(options)))).isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(catchThrowable(() -> get("http://localhost:" + port))))
        .isEqualTo(UNAVAILABLE);
  }

  @Test
  void aServerThatHangsUpIsUnavailable() throws Exception {
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      Thread.ofVirtual().start(() -> {
        try {
          while (true) {
            server.accept().close();
          }
        } catch (IOException closed) {
          // The test is over.
        }
      });
      String address = server.getInetAddress().getHostAddress() + ":" + server.getLocalPort();
      assertThat(FailureKind.of(catchThrowable(() -> get("http://" + address))))
          .isEqualTo(UNAVAILABLE);
      assertThat(FailureKind.of(catchThrowable(() -> get("https://" + address))))
          .isEqualTo(UNAVAILABLE);
      assertThat(FailureKind.of(catchThrowable(
              () -> DriverManager.getConnection("jdbc:postgresql://" + address + "/x"))))
          .isEqualTo(UNAVAILABLE);
    }
  }

  @Test
  void aServerThatDoesNotAnswerIsUnavailable() throws Exception {
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        Socket unused = new Socket(server.getInetAddress(), server.getLocalPort())) {
      URI uri = URI.create("http://localhost:" + server.getLocalPort());
      HttpRequest request =
          HttpRequest.newBuilder(uri).timeout(Duration.ofMillis(50)).build();
      try (HttpClient client = HttpClient.newHttpClient()) {
        assertThat(FailureKind.of(
                catchThrowable(() -> client.send(request, BodyHandlers.discarding()))))
            .isEqualTo(UNAVAILABLE);
      }
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      LOADING Redis is loading the dataset in memory                           | UNAVAILABLE
      READONLY You can't write against a read only replica.                    | UNAVAILABLE
      MASTERDOWN Link with MASTER is down                                      | UNAVAILABLE
      CLUSTERDOWN The cluster is down                                          | UNAVAILABLE
      MISCONF Redis is configured to save RDB snapshots                        | UNAVAILABLE
      OOM command not allowed when used memory > 'maxmemory'.                  | UNAVAILABLE
      ERR max number of clients reached                                        | UNAVAILABLE
      WRONGPASS invalid username-password pair or user is disabled.            | PERMANENT
      NOAUTH Authentication required.                                          | PERMANENT
      ERR DB index is out of range                                             | PERMANENT
      ERR SELECT is not allowed in cluster mode                                | PERMANENT
      WRONGTYPE Operation against a key holding the wrong kind of value        | INTERNAL
      ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write | UNAVAILABLE
      ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed | UNAVAILABLE
      ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -WRONGTYPE Operation | INTERNAL
      NOPERM this user has no permissions to run the 'get' command             | INTERNAL
      EXECABORT Transaction discarded because of previous errors.              | UNAVAILABLE
      EXECABORT Transaction discarded because of: BUSY Redis is busy running   | UNAVAILABLE
      EXECABORT Transaction discarded because of: ERR wrong number of arguments | INTERNAL
      BUSYGROUP Consumer Group name already exists                             | INTERNAL
      ERR syntax error                                                         | INTERNAL
      """)
  void readsTheAnswersOfRedis(String answer, FailureKind expected) {
    assertThat(FailureKind.of(new RedisCommandExecutionException(answer))).isEqualTo(expected);
    assertThat(FailureKind.of(
            new RedisConnectionException("x", new RedisCommandExecutionException(answer))))
        .isEqualTo(expected == INTERNAL ? UNAVAILABLE : expected);
  }

  @Test
  void aRedisThatIsAwayIsUnavailable() {
    assertThat(FailureKind.of(new RedisCommandTimeoutException("timed out")))
        .isEqualTo(UNAVAILABLE);
    assertThat(
            FailureKind.of(new RedisException("Currently not connected. Commands are rejected.")))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(new RedisException(new SocketException("Connection reset"))))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(new RedisLoadingException("LOADING Redis is loading")))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(new RedisBusyException("BUSY Redis is busy running a script.")))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(new RedisException(new IllegalArgumentException("no codec"))))
        .isEqualTo(INTERNAL);
  }

  @ParameterizedTest
  @CsvSource({
    "10002, UNAVAILABLE",
    "10008, UNAVAILABLE",
    "10009, UNAVAILABLE",
    "10023, UNAVAILABLE",
    "10028, UNAVAILABLE",
    "10047, UNAVAILABLE",
    "10077, UNAVAILABLE",
    "10109, UNAVAILABLE",
    "10118, UNAVAILABLE",
    "10120, UNAVAILABLE",
    "10158, UNAVAILABLE",
    "10167, UNAVAILABLE",
    "10194, UNAVAILABLE",
    "10039, PERMANENT",
    "10076, PERMANENT",
    "10054, INTERNAL",
    "10059, INTERNAL",
    "10071, INTERNAL"
  })
  void readsTheErrorsOfJetStream(int code, FailureKind expected) throws Exception {
    ApiResponse<?> answer = new ApiResponse<>(JsonParser.parse(
        "{\"error\":{\"code\":400,\"err_code\":" + code + ",\"description\":\"why\"}}")) {};
    Throwable refused = catchThrowable(answer::throwOnHasError);
    assertThat(refused).isInstanceOf(JetStreamApiException.class);
    assertThat(FailureKind.of(new CompletionException(refused))).isEqualTo(expected);
  }

  @Test
  void aNatsServerThatRefusesTheLoginIsPermanent() {
    assertThat(FailureKind.of(new AuthenticationException("nats: Authorization Violation")))
        .isEqualTo(PERMANENT);
  }

  @Test
  void tlsThatIsRefusedIsPermanentAndTlsThatIsCutOffIsNot() {
    assertThat(FailureKind.of(new SSLHandshakeException("Received fatal alert: bad_certificate")))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(
            new SSLHandshakeException("PKIX path building failed", new CertificateException("x"))))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(new RedisConnectionException(
            "x", new SSLException("Unsupported or unrecognized SSL message"))))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(new RedisConnectionException("x", new KeyStoreException("x"))))
        .isEqualTo(PERMANENT);
    assertThat(FailureKind.of(
            new SSLHandshakeException("Remote host terminated the handshake", new EOFException())))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(
            new SSLException("Connection closed while SSL/TLS handshake was in progress")))
        .isEqualTo(UNAVAILABLE);
    assertThat(FailureKind.of(
            new SSLException("Connection reset", new SocketException("Connection reset"))))
        .isEqualTo(UNAVAILABLE);
  }

  @Test
  void whatConcernsNoDependencyIsInternal() {
    assertThat(FailureKind.of(new IllegalStateException("bug"))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new FileNotFoundException("notes.txt"))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new IOException("disk"))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new EOFException())).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new AEADBadTagException("Tag mismatch"))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new BindException("Address already in use"))).isEqualTo(INTERNAL);
    assertThat(FailureKind.of(new OutOfMemoryError())).isEqualTo(INTERNAL);
  }

  @Test
  void anErrorCodeSaysItself() {
    SQLException away = new SQLException("x", "08006");
    assertThat(FailureKind.of(ServiceException.of(ErrorCode.CONFLICT, away).op("note.write")))
        .isEqualTo(INTERNAL);
    assertThat(FailureKind.of(
            new ExecutionException(ServiceException.of(ErrorCode.UNAVAILABLE).op("note.read"))))
        .isEqualTo(UNAVAILABLE);
  }

  @Test
  void aCircleOfCausesEnds() {
    Exception inner = new Exception();
    Exception outer = new Exception(inner);
    inner.initCause(outer);
    assertThat(FailureKind.of(outer)).isEqualTo(INTERNAL);
  }

  private static void get(String uri) throws Exception {
    try (HttpClient client = HttpClient.newHttpClient()) {
      client.send(HttpRequest.newBuilder(URI.create(uri)).build(), BodyHandlers.discarding());
    }
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }
}
