package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;

import io.lettuce.core.RedisConnectionException;
import java.net.UnknownHostException;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;

class FailuresTest {
  @Test
  void saysInOneLineWhatWentWrong() {
    assertThat(Failures.describe(new CompletionException(
            new RedisConnectionException("Unable to\nconnect", new UnknownHostException("h")))))
        .isEqualTo("Unable to connect: UnknownHostException: h");
  }
}
