package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.security.cert.CertificateException;
import java.sql.SQLException;
import java.util.List;
import javax.net.ssl.SSLHandshakeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLState;
import org.postgresql.util.ServerErrorMessage;

class FailuresTest {
  @ParameterizedTest
  @ValueSource(
      strings = {
        "28P01", "28000", "3D000", "42501", "42601", "42704", "22023", "0A000", "08004", "25001",
        "2BP01", "3F000"
      })
  void whatWaitingCannotHealIsPermanent(String state) {
    assertThat(Failures.permanent(new SQLException("x", state))).isTrue();
    assertThat(Failures.permanent(new IllegalStateException(new SQLException("x", state))))
        .isTrue();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "57P03", "57P01", "57014", "53300", "08001", "08006", "08P01", "40001", "40P01", "55P03",
        "25006", "23505", "42P07", "42701", "42710", "42723", "99999"
      })
  void whatCanPassIsNot(String state) {
    assertThat(Failures.permanent(new SQLException("x", state))).isFalse();
  }

  @Test
  void aFailureWithoutStateCanPass() {
    assertThat(Failures.permanent(new SQLException("x"))).isFalse();
    assertThat(Failures.permanent(new IllegalStateException("x"))).isFalse();
  }

  @Test
  void aConnectionThatBreaksCanPass_alsoInTheTlsHandshake() {
    for (IOException broken : List.of(
        new ConnectException("refused"),
        new UnknownHostException("db"),
        new SocketTimeoutException("slow"),
        new EOFException("cut"),
        sslFailure(new EOFException("cut")))) {
      assertThat(Failures.permanent(new PSQLException("x", PSQLState.CONNECTION_FAILURE, broken)))
          .isFalse();
    }
  }

  @Test
  void aCertificateKeyOrFileThatDoesNotDoIsPermanent() {
    for (Exception bad : List.of(
        sslFailure(new CertificateException("unknown CA")),
        new SSLHandshakeException("Received fatal alert: bad_certificate"),
        new CertificateException("garbage"),
        new CertificateException("garbage", new IOException("too short")),
        new FileNotFoundException("/ca.pem"))) {
      assertThat(Failures.permanent(new PSQLException("x", PSQLState.CONNECTION_FAILURE, bad)))
          .isTrue();
    }
    assertThat(Failures.permanent(
            new PSQLException("host name does not match", PSQLState.CONNECTION_FAILURE)))
        .isTrue();
  }

  @Test
  void aProxyThatReportsAFailedConnectionCanPass() {
    assertThat(Failures.permanent(
            new PSQLException(new ServerErrorMessage("SFATAL\0C08006\0Mserver is gone\0"))))
        .isFalse();
  }

  @Test
  void saysInOneLineWhatTheServerSaid() {
    PSQLException refused = new PSQLException(new ServerErrorMessage(
        "SFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0"));
    SQLException failure = Failures.of("ping_postgres: ", refused);
    assertThat((Throwable) failure)
        .hasMessage("ping_postgres: password authentication failed for user \"app\"")
        .hasCause(refused);
    assertThat(failure.getSQLState()).isEqualTo("28P01");
  }

  @Test
  void addsTheCausesThatTheMessageDoesNotName() {
    assertThat((Throwable) Failures.of(
            "p: ",
            new SQLException(
                "The connection attempt failed.", new UnknownHostException("db.local"))))
        .hasMessage("p: The connection attempt failed.: UnknownHostException: db.local");
    assertThat((Throwable)
            Failures.of("p: ", new SQLException("broken\n  pipe", new IOException("pipe"))))
        .hasMessage("p: broken pipe: IOException: pipe");
    assertThat((Throwable) Failures.of("p: ", new NullPointerException()))
        .hasMessage("p: NullPointerException");
  }

  @Test
  void endsWithACauseThatIsItsOwn() {
    SQLException first = new SQLException("first");
    first.initCause(new SQLException("second", first));
    assertThat((Throwable) Failures.of("p: ", first)).hasMessage("p: first: second");
  }

  private static SSLHandshakeException sslFailure(Exception cause) {
    SSLHandshakeException failure = new SSLHandshakeException("handshake failed");
    failure.initCause(cause);
    return failure;
  }
}
