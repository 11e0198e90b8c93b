package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import com.zaxxer.hikari.HikariConfig;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.SplittableRandom;
import java.util.TimeZone;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.postgresql.Driver;
import org.postgresql.ds.PGSimpleDataSource;

class PostgresUrlTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "postgres://u:p@h/db | jdbc:postgresql://h:5432/db",
        "postgresql://h/db | jdbc:postgresql://h:5432/db",
        "postgres:// | jdbc:postgresql://localhost:5432/",
        "postgres:///db | jdbc:postgresql://localhost:5432/db",
        "postgres://u@ | jdbc:postgresql://localhost:5432/",
        "postgres://u@:6543/db | jdbc:postgresql://localhost:6543/db",
        "postgres://h:/db | jdbc:postgresql://h:5432/db",
        "postgres://h1:1,h2,h3:3/db | jdbc:postgresql://h1:1,h2:5432,h3:3/db",
        "postgres://u:p@[::1]/db | jdbc:postgresql://[::1]:5432/db",
        "postgres://[::1]:6,[fe80::1%25eth0]:7/db | jdbc:postgresql://[::1]:6,[fe80::1%eth0]:7/db",
        "postgres://my%2Ddb.local/a%2Fb%20c | jdbc:postgresql://my-db.local:5432/a%2Fb+c",
        "postgres://h/a+b | jdbc:postgresql://h:5432/a%2Bb",
        "postgres://h?dbname=d | jdbc:postgresql://h:5432/d",
        "postgres:///d?host=h1,h2&port=1,2 | jdbc:postgresql://h1:1,h2:2/d",
        "postgres:///d?host=h1,h2&port=7 | jdbc:postgresql://h1:7,h2:7/d",
        "postgres://old:7/d?host=new | jdbc:postgresql://new:7/d",
        "postgres:///d?host=::1 | jdbc:postgresql://[::1]:5432/d",
        "postgres://h/d? | jdbc:postgresql://h:5432/d",
        "postgres://h/d?&sslmode=require&& | jdbc:postgresql://h:5432/d",
        "jdbc:postgresql://h/d? | jdbc:postgresql://h/d",
        "jdbc:postgresql://h/d?ssl=true& | jdbc:postgresql://h/d?ssl=true",
      })
  void readsHostsPortsAndDatabase(String url, String expected) {
    assertThat(PostgresUrl.parse(url).jdbcUrl()).isEqualTo(expected);
    assertThat(new Driver().acceptsURL(expected)).isTrue();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      nullValues = "-",
      value = {
        "postgres://app:pa%40ss@h/d | app | pa@ss",
        "postgres://a+b:c+d@h/d | a+b | c+d",
        "postgres://%C3%BC:%F0%9F%94%91@h/d | ü | 🔑",
        "postgres://u:a:b@h/d | u | a:b",
        "postgres://u:p@ss@h/d | u | p@ss",
        "postgres://u@h/d | u | -",
        "postgres://u:@h/d | u | -",
        "postgres://h/d?user=a%26b&password=x%3Dy+z | a&b | x=y+z",
        "postgres://u:p@h/d?user=v&password=q | v | q",
        "postgres://h/d | - | -",
        "jdbc:postgresql://h/d?user=a%40b&password=x+y | a@b | x y",
        "jdbc:postgresql:d?password=%2B&user=u | u | +",
      })
  void decodesUserAndPassword(String url, String user, String password) {
    PostgresUrl parsed = PostgresUrl.parse(url);
    assertThat(parsed.user()).isEqualTo(user);
    assertThat(parsed.password()).isEqualTo(password);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "sslmode=verify-full | sslmode=verify-full",
        "ssl=true | sslmode=require",
        "sslmode=require&sslrootcert=/ca.pem | sslmode=verify-ca,sslrootcert=/ca.pem",
        "sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem | sslrootcert=/ca.pem,sslcert=/c.pem,sslkey=/k.pem",
        "sslrootcert=system | sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory,sslmode=verify-full",
        "sslnegotiation=direct&channel_binding=require | sslNegotiation=direct,channelBinding=require",
        "connect_timeout=7 | connectTimeout=7",
        "search_path=a%2Cb | currentSchema=a;b",
        "keepalives=0 | tcpKeepAlive=false",
        "load_balance_hosts=random | loadBalanceHosts=true",
        "target_session_attrs=read-write | targetServerType=primary",
        "target_session_attrs=prefer-standby | targetServerType=preferSecondary",
        "default_query_exec_mode=simple_protocol | prepareThreshold=0",
        "statement_cache_capacity=32 | preparedStatementCacheQueries=32",
        "options=-c%20geqo%3Doff | options=-c geqo=off",
        "statement_timeout=5000 | options=-c statement_timeout=5000",
        "lock_timeout=2s&app.tenant=a%20b%5Cc&options=-c%20jit%3Doff | options=-c jit=off -c "
            + "lock_timeout=2s -c app.tenant=a\\ b\\\\c",
      })
  void givesTheDriverItsOwnNamesOfLibpqsParameters(String query, String expected) {
    Properties properties = new Properties();
    for (String pair : expected.split(",", -1)) {
      String[] parts = pair.split("=", 2);
      properties.setProperty(parts[0], parts[1].replace(';', ','));
    }
    assertThat(PostgresUrl.parse("postgres://h/d?" + query).properties()).isEqualTo(properties);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sslmode=Verify-Full",
        "sslmode=verify%2Dfull",
        "requireAuth=md5,scram-sha-256",
        "protocolVersion=3.2",
        "targetServerType=preferSecondary",
        "ssl",
        "ssl=",
        "ssl=True",
        "cleanupSavepoints=TRUE",
        "tcpKeepAlive=false",
        "connectTimeout=0",
        "receiveBufferSize=-1",
        "loginTimeout=1.5",
        "maxResultBuffer=10p"
      })
  void leavesToTheDriver_whatItTakes(String parameter) {
    assertThat(PostgresUrl.parse("jdbc:postgresql://h/d?" + parameter).jdbcUrl())
        .isEqualTo("jdbc:postgresql://h/d?" + parameter);
  }

  @Test
  void saysThatAnEnvironmentVariableIsNotSet() {
    assertThatThrownBy(() -> Postgres.open(null))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: the database URL is empty or not set");
  }

  @Test
  void takesThePoolParametersThatGoServicesHave() {
    HikariConfig config = new HikariConfig();
    PostgresUrl.parse(
            "postgres://h/d?pool_max_conns=7&pool_min_conns=2&pool_max_conn_lifetime=1h30m&pool_max_conn_idle_time=90s"
                + "&pool_max_conn_lifetime_jitter=1m&pool_health_check_period=30s")
        .applyTo(config);
    assertThat(config.getMaximumPoolSize()).isEqualTo(7);
    assertThat(config.getMinimumIdle()).isEqualTo(2);
    assertThat(config.getMaxLifetime()).isEqualTo(5_400_000);
    assertThat(config.getIdleTimeout()).isEqualTo(90_000);
  }

  @ParameterizedTest
  @CsvSource({"0s, 0s", "30s, 10s"})
  void takesTheShortestTimesOfThePool(String lifetime, String idleTime) {
    HikariConfig config = new HikariConfig();
    config.setDataSource(new PGSimpleDataSource());
    PostgresUrl.parse("postgres://h/d?pool_max_conns=7&pool_min_conns=2&pool_max_conn_lifetime="
            + lifetime + "&pool_max_conn_idle_time=" + idleTime)
        .applyTo(config);
    config.validate();
    assertThat(config.getMaxLifetime()).isEqualTo(seconds(lifetime));
    assertThat(config.getIdleTimeout()).isEqualTo(seconds(idleTime));
  }

  private static long seconds(String duration) {
    return Duration.parse("PT" + duration).toMillis();
  }

  @Test
  void takesTheTimeZoneOfTheJvmAndNoOther() {
    String own = TimeZone.getDefault().getID();
    assertThat(PostgresUrl.parse("postgres://h/d?timezone=" + own).properties()).isEmpty();
    assertThatThrownBy(() -> PostgresUrl.parse("postgres://h/d?TimeZone=Antarctica/Troll"))
        .hasMessageContaining("-Duser.timezone");
  }

  @ParameterizedTest
  @ValueSource(strings = {"UTC", "GMT", "Etc/UTC", "Zulu"})
  void takesTheTimeZoneOfTheJvmByItsOtherNames(String own) {
    TimeZone before = TimeZone.getDefault();
    TimeZone.setDefault(TimeZone.getTimeZone(own));
    try {
      for (String name : List.of("UTC", "utc", "GMT", "Etc/UTC", "Etc/UCT", "Zulu")) {
        assertThat(PostgresUrl.parse("postgres://h/d?timezone=" + name).properties())
            .isEmpty();
      }
      for (String name : List.of("Europe/London", "Nowhere/UTC", "", "-3")) {
        assertThatThrownBy(() -> PostgresUrl.parse("postgres://h/d?timezone=" + name))
            .hasMessageContaining("-Duser.timezone");
      }
    } finally {
      TimeZone.setDefault(before);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "'' | the database URL is empty",
        "' postgres://h/d' | white space",
        "mysql://h/d | must begin with postgres://, postgresql:// or jdbc:postgresql:",
        "postgres://h:99999/d | a port is not a number from 1 to 65535",
        "postgres://h:x/d | a port is not a number",
        "postgres://%2Fvar%2Frun/d | Unix socket",
        "postgres:///d?host=/var/run | Unix socket",
        "postgres://::1/d | IPv6 address stands in brackets",
        "postgres://a b/d | a host is neither a name nor an address",
        "postgres:///d?host=a,b,c&port=1,2 | one port, or one for each host",
        "postgres://u:%zz@h/d | the password is not percent-encoded",
        "postgres://u:%ff@h/d | the password is not percent-encoded",
        "postgres://u:%00@h/d | the password is not percent-encoded",
        "postgres://u%4:p@h/d | the user name is not percent-encoded",
        "postgres://h/%4 | the database name is not percent-encoded",
        "postgres://h/d?sslmod=require | unknown parameter \"sslmod\"",
        "postgres://h/d?sslmode=verify-full&ssl=true | ssl and sslmode must not both be given",
        "jdbc:postgresql://h/d?sslmod=verify-full | unknown parameter \"sslmod\"",
        "postgres://h/d?pool_max_conn_lifetime=29s999ms | pool_max_conn_lifetime must be 0s, for no "
            + "limit, or at least 30s",
        "postgres://h/d?pool_max_conn_idle_time=5s | pool_max_conn_idle_time must be 0s, for no limit,"
            + " or at least 10s",
        "jdbc:postgresql://h/d?passwor%64=x | unknown parameter",
        "jdbc:postgresql://h/d?sslmode=no-verify | sslmode must be one of disable, allow, prefer, "
            + "require, verify-ca, verify-full",
        "jdbc:postgresql://h/d?targetServerType=leader | targetServerType must be one of any, primary",
        "jdbc:postgresql://h/d?preferQueryMode= | preferQueryMode must be one of extended",
        "jdbc:postgresql://h/d?preferQueryMode=Simple | preferQueryMode must be one of extended",
        "jdbc:postgresql://h/d?targetServerType=Primary | targetServerType must be one of any, primary",
        "jdbc:postgresql://h/d?sslmode | sslmode must be one of disable",
        "jdbc:postgresql://h/d?ssl=maybe | ssl must be true or false",
        "jdbc:postgresql://h/d?ssl=1 | ssl must be true or false",
        "jdbc:postgresql://h/d?tcpKeepAlive=yes | tcpKeepAlive must be true or false",
        "jdbc:postgresql://h/d?tcpKeepAlive | tcpKeepAlive must be true or false",
        "jdbc:postgresql://h/d?connectTimeout=abc | connectTimeout must be a whole number",
        "jdbc:postgresql://h/d?socketTimeout=1.5 | socketTimeout must be a whole number",
        "jdbc:postgresql://h/d?queryTimeout= | queryTimeout must be a whole number",
        "jdbc:postgresql://h/d?prepareThreshold=99999999999 | prepareThreshold must be a whole number",
        "postgres://h/d?sslmode=no-verify | sslmode must be one of disable, allow, prefer, "
            + "require, verify-ca, verify-full",
        "postgres://h/d?sslmode=prefer&sslrootcert=system | sslrootcert=system needs sslmode=verify-full",
        "postgres://h/d?skip_verify=true | skip_verify is refused",
        "postgres://h/d?connect_timeout=soon | connect_timeout must be a whole number",
        "postgres://h/d?pool_max_conns=0 | pool_max_conns must be a whole number from 1",
        "postgres://h/d?pool_max_conn_lifetime=soon | pool_max_conn_lifetime must be a duration",
        "postgres://h/d?pool_max_conn_lifetime=999999999999999999h | pool_max_conn_lifetime must be a duration",
        "postgres://h/d?pool_max_conn_idle_time=9999999999999999999s | pool_max_conn_idle_time must be a duration",
        "postgres://h/d?client_encoding=LATIN1 | client_encoding must be UTF8",
        "postgres://h/d?role=a&role=b | parameter \"role\" is given twice",
        "postgres://h/d?role | a parameter is not of the form name=value",
        "postgres://h:x/d?a=1&b=2 | open_postgres: unknown parameter \"a\"; unknown parameter \"b\"; a port",
        "jdbc:postgresql://u:secret@h/d | a jdbc:postgresql: URL has no user-info",
        "jdbc:postgresql://h/d&password=secret | a jdbc:postgresql: URL has no user-info",
        "jdbc:postgresql://h | not of the form jdbc:postgresql://host:port/database",
        "jdbc:postgresql://h/d?password=%zz | the password is not percent-encoded",
      })
  void namesEachProblem(String url, String message) {
    assertThatThrownBy(() -> PostgresUrl.parse(url))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("open_postgres: ")
        .hasMessageContaining(message)
        .hasNoCause();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "postgres://u:S3/cret@h/d",
        "postgres://u:S3?cret@h/d",
        "postgres://u:S3?cret=1@h/d",
        "postgres://u:S3@cret/cret@h/d",
        "postgres://u:1@S3?cret=2@h/d",
        "postgres://u:S3cret%@h/d",
        "postgres://h/d?user=u&password=cret&S3=1",
        "postgres://h/d?user=u&password=cret&S3",
        "postgres://h/d?user=u&password=cret&",
        "jdbc:postgresql://h/d?user=u&password=cret&&S3",
        "postgres://u:S3:cret",
        "postgres:u:S3cret@h/d",
        "jdbc:postgresql://u:S3cret@h/d",
        "jdbc:postgresql://h/a/b?password=S3cret",
        "jdbc:postgresql://h/d?password=S3cret%",
        " postgres://u:S3cret@h/d",
      })
  void aComplaintHoldsNoPieceOfThePassword(String url) {
    IllegalArgumentException refused =
        catchThrowableOfType(IllegalArgumentException.class, () -> PostgresUrl.parse(url));
    assertThat(refused).hasNoCause();
    assertThat(refused.getMessage()).doesNotContain("S3").doesNotContain("cret");
  }

  @Test
  void aJdbcUrlIsLeftAsItIsButForItsSecrets() {
    PostgresUrl parsed = PostgresUrl.parse(
        "jdbc:postgresql://h1:1,h2:2/d?password=S3cret&sslmode=require&user=u&sslpassword=k3y"
            + "&currentSchema=a,b&ApplicationName=x%20y");
    assertThat(parsed.jdbcUrl())
        .isEqualTo(
            "jdbc:postgresql://h1:1,h2:2/d?sslmode=require&currentSchema=a,b&ApplicationName=x%20y");
    assertThat(parsed.applicationName()).isEqualTo("x y");
    assertThat(parsed.properties()).containsOnly(Map.entry("sslpassword", "k3y"));
    assertThat(parsed).hasToString(parsed.jdbcUrl());
  }

  @Test
  void aPlugInGetsWhatTheDriverDoesNotKnow() {
    for (String plugIn : List.of("socketFactory", "authenticationPluginClassName", "sslfactory")) {
      PostgresUrl parsed = PostgresUrl.parse(
          "jdbc:postgresql:///d?cloudSqlInstance=p%3Ar%3Ai&user=u&password=S3cret&iamToken=t0k&"
              + plugIn + "=org.example.Plug");
      assertThat(parsed.jdbcUrl())
          .isEqualTo("jdbc:postgresql:///d?" + plugIn + "=org.example.Plug");
      assertThat(parsed.properties())
          .containsOnly(Map.entry("cloudSqlInstance", "p:r:i"), Map.entry("iamToken", "t0k"));
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "jdbc:postgresql:///d?cloudSqlInstance=x",
        "jdbc:postgresql:///d?cloudSqlInstance=x&socketFactory=",
        "jdbc:postgresql:///d?password=S3&cret&socketFactory=org.example.Plug",
        "jdbc:postgresql:///d?cloudSqlInstance=x&socketFactoryArg=y",
        "postgres://h/d?cloudSqlInstance=x&socketFactory=org.example.Plug"
      })
  void withoutAPlugInAnUnknownNameStaysRefused(String url) {
    assertThatThrownBy(() -> PostgresUrl.parse(url))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("unknown")
        .message()
        .doesNotContain("cret\"");
  }

  @Test
  void anEmptyFileNameIsAsIfAbsent() {
    for (String url : List.of(
        "postgres://h/d?sslmode=require&sslrootcert=&sslcert=&sslkey=&sslpassword=",
        "jdbc:postgresql://h:5432/d?sslmode=require&sslrootcert=&sslcert=&sslkey=&sslpassword=")) {
      Properties settings = Driver.parseURL(
          PostgresUrl.parse(url).jdbcUrl(), PostgresUrl.parse(url).properties());
      assertThat(settings.getProperty("sslmode")).isEqualTo("require");
      for (String file : List.of("sslrootcert", "sslcert", "sslkey", "sslpassword")) {
        assertThat(settings.getProperty(file)).isNull();
      }
    }
  }

  @Test
  void readsBackWhatWasEncoded() {
    roundTrips(20_000);
  }

  @Test
  @Tag("soak")
  void readsBackWhatWasEncoded_soak() {
    System.out.println("postgres URL round trips: " + roundTrips(5_000_000));
  }

  private static int roundTrips(int runs) {
    SplittableRandom random = new SplittableRandom(20260101);
    for (int run = 0; run < runs; run++) {
      String user = text(random);
      String password = text(random);
      String database = text(random);
      String url = "postgres://" + encode(user, random) + ":" + encode(password, random) + "@h/"
          + encode(database, random);
      PostgresUrl parsed = PostgresUrl.parse(url);
      assertThat(parsed.user()).describedAs(url).isEqualTo(user);
      assertThat(parsed.password()).describedAs(url).isEqualTo(password);
      assertThat(Driver.parseURL(parsed.jdbcUrl(), null).getProperty("PGDBNAME"))
          .describedAs(url)
          .isEqualTo(database);
    }
    return runs;
  }

  private static String text(SplittableRandom random) {
    String usual = "abcXYZ019-._~:/?#[]@!$&'()*+,;=% \\\"<>{}|^`";
    StringBuilder text = new StringBuilder();
    for (int length = random.nextInt(1, 12); length > 0; length--) {
      if (random.nextInt(4) > 0) {
        text.append(usual.charAt(random.nextInt(usual.length())));
      } else {
        int codePoint = random.nextInt(1, Character.MAX_CODE_POINT + 1);
        text.appendCodePoint(codePoint >= 0xD800 && codePoint < 0xE000 ? 'é' : codePoint);
      }
    }
    return text.toString();
  }

  /** Encodes what must be, and now and then what need not be. */
  private static String encode(String text, SplittableRandom random) {
    StringBuilder encoded = new StringBuilder();
    for (byte each : text.getBytes(StandardCharsets.UTF_8)) {
      char character = (char) (each & 0xFF);
      boolean plain = character < 0x80
          && (Character.isLetterOrDigit(character) || "-._~!$'()*+;".indexOf(character) >= 0);
      encoded.append(
          plain && random.nextInt(5) > 0
              ? String.valueOf(character)
              : String.format("%%%02X", each & 0xFF));
    }
    return encoded.toString();
  }
}
