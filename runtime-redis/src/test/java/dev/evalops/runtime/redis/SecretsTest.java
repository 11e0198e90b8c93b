package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.classic.spi.ThrowableProxyUtil;
import ch.qos.logback.core.AppenderBase;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;

class SecretsTest {
  @Test
  void noPasswordReachesALogOrAnException() {
    Queue<String> seen = new ConcurrentLinkedQueue<>();
    AppenderBase<ILoggingEvent> capture = new AppenderBase<>() {
      @Override
      protected void append(ILoggingEvent event) {
        seen.add(event.getFormattedMessage()
            + event.getKeyValuePairs()
            + (event.getThrowableProxy() == null
                ? ""
                : ThrowableProxyUtil.asString(event.getThrowableProxy())));
      }
    };
    Logger root = (Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);
    Level before = root.getLevel();
    root.detachAndStopAllAppenders();
    root.addAppender(capture);
    root.setLevel(Level.TRACE);
    // Its TRACE is the wire itself.
    Logger encoder = (Logger) LoggerFactory.getLogger("io.lettuce.core.protocol.CommandEncoder");
    encoder.setLevel(Level.DEBUG);
    capture.start();
    try (RedisServer server = RedisServer.start()) {
      try (Redis admin = Redis.open(server.url())) {
        admin.connection().sync().configSet("requirepass", "S3cret/word");
      }
      String at = "127.0.0.1:" + server.port();
      try (Redis redis = Redis.open("redis://default:S3cret%2Fword@" + at + "/1")) {
        assertThat(redis.connection().sync().ping()).isEqualTo("PONG");
        seen.add(redis.client().toString() + redis.connection());
      }
      Retry twice = Retry.builder().maxAttempts(2).delay(Duration.ZERO).build();
      for (String url : new String[] {
        "redis://default:S3cretwrong@" + at,
        "redis://:S3cretwrong@" + at,
        "redis://default:S3cret%2Fword@" + at + "/99",
        "redis://default:S3cret%2Fword@no-such-host.invalid",
        "redis://default:S3cret/word@" + at,
        "redis://default:S3cret^word@" + at,
        "redis-sentinel://default:S3cret%2Fword@" + at,
      }) {
        StringWriter trace = new StringWriter();
        catchThrowable(() -> Redis.builder(url).retry(twice).open().close())
            .printStackTrace(new PrintWriter(trace));
        seen.add(trace.toString());
      }
    } finally {
      root.setLevel(before);
      encoder.setLevel(null);
      root.detachAppender(capture);
    }
    assertThat(seen)
        .anyMatch(line -> line.contains("ping_redis: "))
        .anyMatch(line -> line.contains("type=HELLO"));
    assertThat(seen).noneMatch(line -> line.contains("S3cret"));
  }
}
