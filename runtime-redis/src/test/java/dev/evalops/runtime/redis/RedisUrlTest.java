package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.lettuce.core.RedisCredentials;
import io.lettuce.core.RedisURI;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class RedisUrlTest {
  @ParameterizedTest
  @CsvSource({
    "redis://h, h, 6379, 0, false",
    "redis://h:7/3, h, 7, 3, false",
    "rediss://h:7, h, 7, 0, true",
    "redis://h?db=4, h, 6379, 4, false",
    "redis://h?database=4&timeout=2s, h, 6379, 4, false",
    "redis://h?database=4&, h, 6379, 4, false",
    "redis://h?timeout=5000000000ns, h, 6379, 0, false",
    "redis://h?timeout=2S, h, 6379, 0, false",
    "redis://[::1]:7/1, [::1], 7, 1, false",
  })
  void readsHostPortDatabaseAndTls(String url, String host, int port, int database, boolean tls) {
    RedisURI uri = RedisUrl.parse(url);
    assertThat(uri.getHost()).isEqualTo(host);
    assertThat(uri.getPort()).isEqualTo(port);
    assertThat(uri.getDatabase()).isEqualTo(database);
    assertThat(uri.isSsl()).isEqualTo(tls);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      nullValues = "-",
      value = {
        "redis://h | - | -",
        "redis://:p%40ss@h | - | p@ss",
        "redis://user:p%2Fs+s@h | user | p/s+s",
        "redis://na%3Ame:p%3Aw@h | na:me | p:w",
        "redis://na%3Ame@h | - | na:me",
        "redis://user:@h | user | ''",
        "redis://:@h | - | -",
        "redis://us%40er:p%25w@h/1?timeout=1s | us@er | p%w",
        "redis://u:%EF%BF%BD@h | u | \ufffd",
        "redis://%ef%bf%bd:é%C3%BC@h | \ufffd | éü",
        "redis-sentinel://na%3Ame:p%3Aw@h1:1,h2/0#main | na:me | p:w",
        "redis-sentinel://user:pa%40ss@h1:1,h2/0#main | user | pa@ss",
      })
  void readsUserAndPassword(String url, String user, String password) {
    RedisCredentials credentials =
        RedisUrl.parse(url).getCredentialsProvider().resolveCredentials().block();
    assertThat(credentials.getUsername()).isEqualTo(user);
    assertThat(credentials.getPassword() == null ? null : new String(credentials.getPassword()))
        .isEqualTo(password);
  }

  @Test
  void saysThatAnEnvironmentVariableIsNotSet() {
    assertThatThrownBy(() -> Redis.open(null))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("parse_redis_url: the Redis URL is not set; ");
    assertThatThrownBy(() -> RedisCluster.open(null))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("parse_redis_url: the Redis URL is not set; ");
  }

  @Test
  void readsSentinels() {
    RedisURI uri = RedisUrl.parse("redis-sentinel://h1:1,h2/2#main");
    assertThat(uri.getSentinelMasterId()).isEqualTo("main");
    assertThat(uri.getSentinels()).extracting(RedisURI::getHost).containsExactly("h1", "h2");
    assertThat(uri.getDatabase()).isEqualTo(2);
  }

  @Test
  void commandsTimeOutAfterThreeSeconds_unlessTheUrlSaysOtherwise() {
    assertThat(RedisUrl.parse("redis://h").getTimeout()).isEqualTo(Duration.ofSeconds(3));
    assertThat(RedisUrl.parse("redis://h?timeout=250ms").getTimeout())
        .isEqualTo(Duration.ofMillis(250));
    assertThat(RedisUrl.parse("redis://h?Timeout=0").getTimeout()).isZero();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "'' | must begin with redis://",
        "h:6379 | must begin with redis://",
        "127.0.0.1:6379 | must begin with redis://",
        "http://h | must begin with redis://",
        "redis-socket:///tmp/x | must begin with redis://",
        "redis:///0 | the host is missing",
        "redis://my_host:7 | the host is missing or no host name",
        "redis://h1,h2 | the host is missing or no host name",
        "redis://h/zero | a database number",
        "redis://h:99999 | a port (1 to 65535)",
        "redis-sentinel://h1 | the name of the master (#name)",
        "redis://h?dial_timeout=3 | unknown parameter \"dial_timeout\"",
        "redis://h?skip_verify=true | unknown parameter \"skip_verify\"",
        "redis://h?timeout | unknown parameter",
        "redis://h?verifyPeer=maybe | verifyPeer must be FULL, CA or NONE",
        "redis://h?db=x | database must be a number",
        "redis://h?database=-1 | database must be a number",
        "redis://h?database= | database must be a number",
        "redis://h?db=1&database=2 | database is given twice",
        "redis://h/3?db=4 | the database is given twice",
        "redis://h?clientName=a%26db=4&db=3 | db is given twice",
        "redis://h?timeout=soon | timeout must be like 500ms or 2s",
        "redis://h?timeout= | timeout must be like",
        "redis://h?timeout=200000d | timeout must be less than 292 years",
        "redis://h?timeout=1.5s | timeout must be like",
        "redis://h?timeout=-5s | timeout must be like",
        "redis://h?timeout=5sec | timeout must be like",
        "redis://h?timeout=1s&Timeout=2s | timeout is given twice",
        "redis://h:0 | the port must be 1 to 65535",
        "redis://h#1 | only redis-sentinel:// knows",
        "redis://h?sentinelMasterId=m | only redis-sentinel:// knows",
        "redis-sentinel://h?sentinelMasterId=m#n | given twice",
        "redis://h?clientName=a%20b | clientName must be ASCII without blanks",
        "redis://h?clientname=%C3%A4 | clientName must be ASCII without blanks",
        "redis://h?libraryName=a%0Ab | libraryName must be ASCII without blanks",
        "redis://h?libraryVersion=1%202 | libraryVersion must be ASCII without blanks",
        "redis://u:%ff@h | the user name or password is not percent-encoded UTF-8",
        "redis://u:%EF%BF%BD%c3@h | the user name or password is not percent-encoded UTF-8",
        "redis://u:%c3%EF%BF%BD@h | the user name or password is not percent-encoded UTF-8",
        "redis://%c3:p@h | the user name or password is not percent-encoded UTF-8",
        "redis://u:%zz@h | it is not a URL",
        "redis://u:p w@h | it is not a URL",
      })
  void namesTheProblem(String url, String message) {
    assertThatThrownBy(() -> RedisUrl.parse(url))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("parse_redis_url: ")
        .hasMessageContaining(message)
        .hasNoCause();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "redis://u:S3cret^@h",
        "redis://u:S3/cret@h",
        "redis://u:1/S3cret@h",
        "redis://u:1?S3cret@h",
        "redis://u:1?S3cret=@h",
        "redis://u:S3#cret@h",
        "redis://u:1#S3cret@h",
        "redis://u:S3cret@h/S3cret",
        "redis://u:S3cret@h:S3cret",
        "redis://h?verifyPeer=S3cret",
        "redis://h?db=S3cret",
        "redis://h?timeout=S3cret",
        "redis://h#S3cret",
        "u:S3cret@h",
      })
  void aComplaintHoldsNoPieceOfThePassword(String url) {
    IllegalArgumentException refused =
        catchThrowableOfType(IllegalArgumentException.class, () -> RedisUrl.parse(url));
    assertThat(refused).hasNoCause();
    assertThat(refused.getMessage()).doesNotContain("S3").doesNotContain("cret");
  }

  @Test
  void noPrintableCharacterMakesAComplaintShowThePassword() {
    for (char raw = ' '; raw <= '~'; raw++) {
      for (String password : List.of(
          "S3" + raw + "cret",
          raw + "S3cret",
          "S3cret" + raw,
          "1" + raw + "S3cret",
          "" + raw + raw + "S3cret@S3" + raw)) {
        for (String url : List.of(
            "redis://u:" + password + "@h:1/0",
            "redis://:" + password + "@h",
            "rediss:" + password + "@h",
            "redis-sentinel://u:" + password + "@h1,h2/0#main",
            "redis-sentinel://u:p@h1,u:" + password + "@h2/0#main")) {
          Throwable refused = catchThrowable(() -> RedisUrl.parse(url));
          if (refused == null) {
            assertThat(RedisUrl.parse(url).toString()).doesNotContain("cret");
          } else {
            assertThat(refused).isInstanceOf(IllegalArgumentException.class).hasNoCause();
            assertThat(refused.getMessage()).doesNotContain("S3").doesNotContain("cret");
          }
        }
      }
    }
  }
}
