package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.nats.client.support.NatsUri;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.CharRange;
import net.jqwik.api.constraints.StringLength;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class NatsUrlTest {
  private static List<String> servers(String url) {
    List<String> problems = new ArrayList<>();
    List<String> servers = NatsUrl.servers(url, problems);
    assertThat(problems.isEmpty()).isEqualTo(!servers.isEmpty());
    return servers;
  }

  /** As the client reads it. */
  private static String password(String server) throws Exception {
    String user = new NatsUri(server).getUri().getRawUserInfo();
    return URLDecoder.decode(
        user.substring(user.indexOf(':') + 1).replace("+", "%2B"), StandardCharsets.UTF_8);
  }

  private static String escaped(String text) {
    StringBuilder escaped = new StringBuilder();
    for (byte each : text.getBytes(StandardCharsets.UTF_8)) {
      escaped.append("%%%02X".formatted(each & 0xFF));
    }
    return escaped.toString();
  }

  /** Either it is read as it is, or refused without any piece of it. */
  private static void check(String secret) throws Exception {
    List<String> servers = servers("nats://bob:" + secret + "@host:4222");
    if (servers.isEmpty()) {
      assertRefused("nats://bob:" + secret + "@host:4222");
    } else if (secret.indexOf('%') < 0) {
      assertThat(servers).hasSize(1);
      assertThat(password(servers.get(0))).isEqualTo(secret);
      assertThat(new NatsUri(servers.get(0)).getHost()).isEqualTo("host");
    }
    List<String> written = servers("nats://bob:" + escaped(secret) + "@host:4222");
    assertThat(password(written.get(0))).isEqualTo(secret);
  }

  private static void assertRefused(String url) {
    try (Logs logs = new Logs()) {
      assertThatThrownBy(
              () -> NatsBus.builder(url).stream("S").subjectPrefix("p").open())
          .isInstanceOf(IllegalArgumentException.class)
          .hasNoCause()
          .hasMessageStartingWith("url must be nats://user:password@host:4222")
          .hasMessageContaining("write / as %2F")
          .satisfies(failure ->
              assertThat(failure.getMessage()).doesNotContain("bob", "s3c", "r3t", "12", "34"));
      assertThat(logs.lines()).isEmpty();
    }
  }

  @Test
  void readsOrRefusesEveryCharacterOfAPassword_andReadsItEscaped() throws Exception {
    for (char c = ' '; c <= 255; c++) {
      if (c < 127 || c > 160) {
        for (String secret : List.of(
            "s3c" + c + "r3t", c + "s3cr3t", "s3cr3t" + c, "12" + c + "34", c + "" + c, "12" + c)) {
          check(secret);
        }
      }
    }
    check("s3c\nr3t");
    check("s3c\tr3t");
    check("s3c\r\nr3t");
    check("pässwörd你");
    for (char c : "/, [\n\"#<>?@\\]^`{|}".toCharArray()) {
      assertThat(servers("nats://bob:s3c" + c + "r3t@host:4222")).as("%s", c).isEmpty();
      assertThat(servers("nats://bob:12" + c + "34@host:4222")).as("%s", c).isEmpty();
      assertThat(servers("nats://12" + c + "34@host:4222")).as("%s", c).isEmpty();
    }
  }

  @Property(tries = 300)
  void readsOrRefusesEveryPassword(
      @ForAll @StringLength(min = 1, max = 12) @CharRange(from = ' ', to = '~') String secret)
      throws Exception {
    check(secret);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "nats://host",
        "host",
        "host:4222",
        "bob:s3cr3t@host",
        "nats://bob:s3cr3t@host:4222/",
        "TLS://10.0.0.1:4222",
        "nats://[::1]:4222",
        "nats://bob:@[fe80::1%25eth0]",
        "ws://host:80/nats/path",
        "wss://bob:s3cr3t@host",
        "nats://token@nats-0.nats.svc.cluster.local."
      })
  void readsAServer(String url) {
    assertThat(servers(" " + url + "\n")).containsExactly(url);
  }

  /** Such as a token of an identity provider, and far beyond. */
  @ParameterizedTest
  @ValueSource(ints = {1000, 3000, 100_000})
  void readsALongSecret(int length) throws Exception {
    check("s".repeat(length));
    check("%".repeat(length / 2));
    assertThat(servers("nats://" + "s".repeat(length) + "@host")).hasSize(1);
  }

  @Test
  void readsSeveral() {
    assertThat(servers("nats://bob:a@one:1 ,nats://bob:a@two:2,\tthree"))
        .containsExactly("nats://bob:a@one:1", "nats://bob:a@two:2", "three");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "nats://bob:s3cr3t@",
        "nats://bob:s3cr3t@host:port",
        "nats://bob:s3cr3t@host:0",
        "nats://bob:s3cr3t@host:99999",
        "nats://bob:s3cr3t@host:4222/path",
        "bad scheme://bob:s3cr3t@host",
        "http://bob:s3cr3t@host",
        "nats://bob:s3cr3t@one,",
        "nats://one:12,34@two",
        "nats://bob:s3cr3t@one?x=1"
      })
  void refusesWhatIsNone(String url) {
    assertRefused(url);
  }
}
