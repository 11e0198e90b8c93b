package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;

import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisConnectionException;
import io.netty.handler.ssl.NotSslRecordException;
import java.io.EOFException;
import java.net.ConnectException;
import java.net.UnknownHostException;
import java.security.cert.CertificateException;
import java.util.concurrent.CompletionException;
import javax.net.ssl.SSLHandshakeException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class FailuresTest {
  @ParameterizedTest
  @ValueSource(
      strings = {
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOAUTH Authentication required.",
        "NOPERM User app has no permissions to run the 'ping' command",
        "DENIED Redis is running in protected mode",
        "ERR invalid password",
        "ERR AUTH <password> called without any password configured for the default user.",
        "ERR DB index is out of range",
        "ERR invalid DB index"
      })
  void whatTheServerWillSayAgainIsPermanent(String answer) {
    assertThat(Failures.permanent(
            new RedisConnectionException("x", new RedisCommandExecutionException(answer))))
        .isTrue();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "BUSY Redis is busy running a script",
        "READONLY You can't write against a read only replica.",
        "ERR max number of clients reached"
      })
  void whatCanPassIsNot(String answer) {
    assertThat(Failures.permanent(
            new RedisConnectionException("x", new RedisCommandExecutionException(answer))))
        .isFalse();
  }

  @Test
  void aConnectionThatBreaksCanPass_alsoInTheTlsHandshake() {
    assertThat(
            Failures.permanent(new RedisConnectionException("x", new ConnectException("refused"))))
        .isFalse();
    assertThat(Failures.permanent(new RedisConnectionException("x", new UnknownHostException("h"))))
        .isFalse();
    assertThat(Failures.permanent(sslFailure(new EOFException("cut")))).isFalse();
    assertThat(Failures.permanent(
            new SSLHandshakeException("Connection closed while SSL/TLS handshake was in progress")))
        .isFalse();
  }

  @Test
  void aCertificateThatDoesNotDoIsPermanent() {
    assertThat(
            Failures.permanent(new SSLHandshakeException("Received fatal alert: bad_certificate")))
        .isTrue();
    assertThat(Failures.permanent(new NotSslRecordException("not an SSL/TLS record")))
        .isTrue();
    assertThat(Failures.permanent(
            new RedisConnectionException("x", sslFailure(new CertificateException("unknown CA")))))
        .isTrue();
  }

  @Test
  void saysInOneLineWhatWentWrong() {
    assertThat(Failures.describe(new CompletionException(
            new RedisConnectionException("Unable to\nconnect", new UnknownHostException("h")))))
        .isEqualTo("Unable to connect: UnknownHostException: h");
  }

  private static SSLHandshakeException sslFailure(Exception cause) {
    SSLHandshakeException failure = new SSLHandshakeException("handshake failed");
    failure.initCause(cause);
    return failure;
  }
}
