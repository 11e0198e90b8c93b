package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TimeZone;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.postgresql.PGProperty;

/**
 * What a database URL says, taken apart so that nothing secret stays in the part that drivers and pools print. All
 * problems of a URL are reported in one exception, which holds no value of the URL, for a misplaced character can move
 * a piece of the password into any of them.
 */
final class PostgresUrl {
  private static final String JDBC = "jdbc:postgresql:";
  private static final Set<String> SECRETS = Set.of("password", "sslpassword");

  /** Classes that the driver loads by name, and gives all settings to. */
  private static final Set<String> PLUG_INS =
      Set.of("socketFactory", "authenticationPluginClassName", "sslfactory");

  /** The driver takes more than it lists: several at once, versions that it knows by now, fractions. */
  private static final Set<PGProperty> OTHER_VALUES =
      Set.of(PGProperty.REQUIRE_AUTH, PGProperty.PROTOCOL_VERSION, PGProperty.LOGIN_TIMEOUT);

  /** Whose values the driver takes in any case. */
  private static final Set<PGProperty> ANY_CASE = Set.of(
      PGProperty.SSL_MODE, PGProperty.AUTOSAVE, PGProperty.GSS_ENC_MODE, PGProperty.STRING_TYPE);

  /** Names of files, and a password; empty ones are as if absent. */
  private static final Set<String> FILES =
      Set.of("sslrootcert", "sslcert", "sslkey", "sslpassword");

  /** Run-time parameters of the server that may stand in the URL; so may every name with a dot. */
  private static final Set<String> RUNTIME_PARAMETERS = Set.of(
      "client_min_messages",
      "default_transaction_deferrable",
      "default_transaction_isolation",
      "default_transaction_read_only",
      "idle_in_transaction_session_timeout",
      "idle_session_timeout",
      "jit",
      "lock_timeout",
      "plan_cache_mode",
      "role",
      "statement_timeout",
      "synchronous_commit",
      "transaction_timeout",
      "work_mem");

  private static final Pattern CUSTOM_PARAMETER =
      Pattern.compile("[A-Za-z_]\\w*(\\.[A-Za-z_]\\w*)+");
  private static final Pattern HOST = Pattern.compile("[\\p{L}\\p{N}._-]+");
  private static final Pattern IPV6 = Pattern.compile("[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\\w.-]+)?");
  private static final Pattern GO_DURATION =
      Pattern.compile("(\\d{1,9}h)?(\\d{1,9}m)?(\\d{1,9}s)?(\\d{1,9}ms)?");

  private final List<String> problems = new ArrayList<>();
  private final Properties properties = new Properties();
  private final List<Consumer<HikariConfig>> pool = new ArrayList<>();
  private List<String> hosts = new ArrayList<>();
  private List<String> ports = new ArrayList<>();
  private final StringBuilder options = new StringBuilder();
  private String jdbcUrl = JDBC;
  private @Nullable String user;
  private @Nullable String password;
  private @Nullable String database;
  private @Nullable String applicationName;

  private PostgresUrl() {}

  /**
   * Reads a URL.
   *
   * @throws IllegalArgumentException naming every problem, without any value of the URL
   */
  static PostgresUrl parse(String url) {
    PostgresUrl parsed = new PostgresUrl();
    if (url.isBlank()) {
      parsed.problem("the database URL is empty or not set");
    } else if (!url.strip().equals(url) || url.chars().anyMatch(Character::isISOControl)) {
      parsed.problem("the database URL has white space around it or a control character in it");
    } else if (url.startsWith(JDBC)) {
      parsed.jdbc(url);
    } else if (url.startsWith("postgres://")) {
      parsed.libpq(url.substring("postgres://".length()));
    } else if (url.startsWith("postgresql://")) {
      parsed.libpq(url.substring("postgresql://".length()));
    } else {
      parsed.problem(
          "the database URL must begin with postgres://, postgresql:// or jdbc:postgresql:");
    }
    if (!parsed.problems.isEmpty()) {
      throw new IllegalArgumentException("open_postgres: " + String.join("; ", parsed.problems));
    }
    return parsed;
  }

  /** The URL for the driver: hosts, ports and database of the given one; never credentials. */
  String jdbcUrl() {
    return jdbcUrl;
  }

  /** Settings of the driver, by its names; without user and password. */
  Properties properties() {
    return properties;
  }

  @Nullable
  String user() {
    return user;
  }

  @Nullable
  String password() {
    return password;
  }

  @Nullable
  String applicationName() {
    return applicationName;
  }

  /** Puts the {@code pool_*} parameters of the URL into the pool's settings. */
  void applyTo(HikariConfig config) {
    pool.forEach(setting -> setting.accept(config));
  }

  @Override
  public String toString() {
    return jdbcUrl;
  }

  private void problem(String text) {
    if (!problems.contains(text)) {
      problems.add(text);
    }
  }

  // libpq's form: [user[:password]@][host[:port],...][/database][?name=value&...]

  private void libpq(String rest) {
    int authorityEnd = firstOf(rest, "/?");
    String authority = rest.substring(0, authorityEnd);
    int question = rest.indexOf('?', authorityEnd);
    String path = rest.substring(authorityEnd, question < 0 ? rest.length() : question);
    String query = question < 0 ? "" : rest.substring(question + 1);

    int at = authority.lastIndexOf('@');
    if (at >= 0) {
      String userInfo = authority.substring(0, at);
      int colon = userInfo.indexOf(':');
      user = emptyToNull(decode("user name", colon < 0 ? userInfo : userInfo.substring(0, colon)));
      password = colon < 0 ? null : emptyToNull(decode("password", userInfo.substring(colon + 1)));
    }
    for (String address : authority.substring(at + 1).split(",", -1)) {
      address(address);
    }
    if (path.length() > 1) {
      database = decode("database name", path.substring(1));
    }
    query(query);
    List<String> addresses = addresses();
    if (properties.containsKey("sslfactory")
        && !"verify-full".equals(properties.getProperty("sslmode"))) {
      problem("sslrootcert=system needs sslmode=verify-full");
    }

    if (path.indexOf('@') >= 0 || (!problems.isEmpty() && query.indexOf('@') >= 0)) {
      // The user-info was cut by a raw delimiter: every other complaint could show a piece of it.
      problems.clear();
      problem(
          "the database URL has an @ behind its host: in a user name, password or database name "
              + "write / as %2F, ? as %3F"
              + " and @ as %40");
      return;
    }
    if (!options.isEmpty()) {
      properties.setProperty("options", options.toString());
    }
    jdbcUrl = JDBC + "//" + String.join(",", addresses) + "/"
        + (database == null ? "" : URLEncoder.encode(database, StandardCharsets.UTF_8));
  }

  private void address(String raw) {
    int colon = raw.lastIndexOf(':');
    if (raw.lastIndexOf(']') > colon) {
      colon = -1;
    }
    String host = colon < 0 ? raw : raw.substring(0, colon);
    boolean bracketed = host.startsWith("[") && host.endsWith("]");
    if (!bracketed && host.indexOf(':') >= 0) {
      host = "[";
    }
    hosts.add(decode("host", bracketed ? host.substring(1, host.length() - 1) : host));
    ports.add(colon < 0 ? "" : decode("port", raw.substring(colon + 1)));
  }

  private List<String> addresses() {
    if (ports.size() != 1 && ports.size() != hosts.size()) {
      problem("there must be one port, or one for each host");
      return List.of();
    }
    List<String> addresses = new ArrayList<>();
    for (int i = 0; i < hosts.size(); i++) {
      addresses.add(host(hosts.get(i)) + ":" + port(ports.get(ports.size() == 1 ? 0 : i)));
    }
    return addresses;
  }

  private String host(String host) {
    if (host.isEmpty()) {
      return "localhost";
    }
    if (HOST.matcher(host).matches()) {
      return host;
    }
    if (IPV6.matcher(host).matches()) {
      return "[" + host + "]";
    }
    problem(
        host.startsWith("/") || host.startsWith("@")
            ? "a Unix socket as host is not supported: give a host name"
            : "a host is neither a name nor an address (an IPv6 address stands in brackets, and : "
                + "/ ? @ in a user name or password"
                + " are written %3A %2F %3F %40)");
    return "";
  }

  private int port(String port) {
    if (port.isEmpty()) {
      return 5432;
    }
    if (port.matches("\\d{1,5}")) {
      int number = Integer.parseInt(port);
      if (number >= 1 && number <= 65535) {
        return number;
      }
    }
    problem(
        "a port is not a number from 1 to 65535 (in a user name or password write : / ? @ as %3A %2F %3F %40)");
    return 5432;
  }

  private void query(String query) {
    Set<String> seen = new HashSet<>();
    boolean afterSecret = false;
    for (String pair : query.isEmpty() ? new String[0] : query.split("&", -1)) {
      if (pair.isEmpty() && !afterSecret) {
        continue;
      }
      int equals = pair.indexOf('=');
      String name = equals < 0 ? "" : decode("parameter name", pair.substring(0, equals));
      if (name.isEmpty()) {
        problem("a parameter is not of the form name=value (an & in a value is written %26)");
        continue;
      }
      if (!seen.add(name)) {
        problem("parameter " + quote(name) + " is given twice");
        continue;
      }
      String value = decode("parameter " + quote(name), pair.substring(equals + 1));
      if (!parameter(name, value)) {
        problem(
            afterSecret
                ? "the parameter after the password is unknown (an & in a password is written %26)"
                : "unknown parameter " + quote(name));
      }
      afterSecret = SECRETS.contains(name);
    }
    if (seen.contains("ssl") && seen.contains("sslmode")) {
      problem("ssl and sslmode must not both be given: sslmode says it all");
    }
    if (properties.containsKey("sslrootcert")
        && "require".equals(properties.getProperty("sslmode"))) {
      properties.setProperty(
          "sslmode", "verify-ca"); // as libpq does when it has a CA to check with
    }
  }

  /** Takes one parameter; false if there is no such. */
  private boolean parameter(String name, String value) {
    switch (name) {
      case "user" -> user = emptyToNull(value);
      case "password" -> password = emptyToNull(value);
      case "host" -> hosts = List.of(value.split(",", -1));
      case "port" -> ports = List.of(value.split(",", -1));
      case "dbname", "database" -> database = emptyToNull(value);
      case "application_name" -> applicationName = emptyToNull(value);
      case "fallback_application_name" -> {
        if (applicationName == null) {
          applicationName = emptyToNull(value);
        }
      }
      case "search_path" -> properties.setProperty("currentSchema", value);
      case "options" -> options.insert(0, options.isEmpty() ? value : value + " ");
      case "connect_timeout" ->
        number(name, value, 0, seconds -> properties.setProperty("connectTimeout", "" + seconds));
      case "keepalives" -> choice(name, value, "tcpKeepAlive", "1=true", "0=false");
      case "load_balance_hosts" ->
        choice(name, value, "loadBalanceHosts", "disable=false", "random=true");
      case "target_session_attrs" ->
        choice(
            name,
            value,
            "targetServerType",
            "any=any",
            "read-write=primary",
            "primary=primary",
            "read-only=secondary",
            "standby=secondary",
            "prefer-standby=preferSecondary");
      case "sslmode" ->
        choice(
            name,
            value,
            "sslmode",
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full");
      case "ssl" -> choice(name, value, "sslmode", "true=require", "false=disable");
      case "sslrootcert" -> {
        if (value.isEmpty()) {
          return true; // as if absent
        } else if (value.equals("system")) {
          properties.setProperty("sslfactory", "org.postgresql.ssl.DefaultJavaSSLFactory");
          properties.putIfAbsent("sslmode", "verify-full");
        } else {
          properties.setProperty("sslrootcert", value);
        }
      }
      case "sslcert", "sslkey", "sslpassword" -> {
        if (!value.isEmpty()) {
          properties.setProperty(name, value);
        }
      }
      case "sslnegotiation" -> choice(name, value, "sslNegotiation", "postgres", "direct");
      case "channel_binding" ->
        choice(name, value, "channelBinding", "disable", "prefer", "require");
      case "require_auth" -> properties.setProperty("requireAuth", value);
      case "gssencmode" -> choice(name, value, "gssEncMode", "disable", "prefer", "require");
      case "krbsrvname" -> properties.setProperty("kerberosServerName", value);
      case "skip_verify" ->
        problem("skip_verify is refused: name the server's CA with sslrootcert, or say "
            + "sslmode=require for TLS without checks");
      case "client_encoding" -> {
        if (!Set.of("UTF8", "UTF-8", "AUTO").contains(value.toUpperCase(Locale.ROOT))) {
          problem("client_encoding must be UTF8");
        }
      }
      case "timezone", "TimeZone" -> {
        if (!isTimeZoneOfTheJvm(value)) {
          problem("the driver gives each session the time zone of the JVM: remove " + name
              + " and set -Duser.timezone");
        }
      }
      case "pool_max_conns" ->
        number(name, value, 1, max -> pool.add(config -> config.setMaximumPoolSize((int) max)));
      case "pool_min_conns", "pool_min_idle_conns" ->
        number(name, value, 0, min -> pool.add(config -> config.setMinimumIdle((int) min)));
      case "pool_max_conn_lifetime" ->
        millis(name, value, 30, millis -> pool.add(config -> config.setMaxLifetime(millis)));
      case "pool_max_conn_idle_time" ->
        millis(name, value, 10, millis -> pool.add(config -> config.setIdleTimeout(millis)));
      case "pool_max_conn_lifetime_jitter", "pool_health_check_period" ->
        millis(name, value, 0, ignored -> {});
      case "default_query_exec_mode" -> {
        choice(
            name,
            value,
            "prepareThreshold",
            "cache_statement=5",
            "cache_describe=0",
            "describe_exec=0",
            "exec=0",
            "simple_protocol=0");
      }
      case "statement_cache_capacity" ->
        number(
            name,
            value,
            0,
            size -> properties.setProperty("preparedStatementCacheQueries", "" + size));
      default -> {
        if (!RUNTIME_PARAMETERS.contains(name)
            && !CUSTOM_PARAMETER.matcher(name).matches()) {
          return false;
        }
        options
            .append(options.isEmpty() ? "-c " : " -c ")
            .append(name)
            .append('=')
            .append(value.replaceAll("[\\\\\\s]", "\\\\$0"));
      }
    }
    return true;
  }

  /** By its rules, for UTC goes by many names, and which of them is the JVM's depends on the image. */
  private static boolean isTimeZoneOfTheJvm(String name) {
    TimeZone own = TimeZone.getDefault();
    return name.equalsIgnoreCase(own.getID())
        || ZoneId.getAvailableZoneIds().stream()
            .filter(name::equalsIgnoreCase)
            .anyMatch(id -> ZoneId.of(id).getRules().equals(own.toZoneId().getRules()));
  }

  private void choice(String name, String value, String property, String... choices) {
    for (String choice : choices) {
      String[] parts = choice.split("=", 2);
      if (parts[0].equals(value)) {
        properties.setProperty(property, parts[parts.length - 1]);
        return;
      }
    }
    problem(name + " must be one of "
        + String.join(
            ", ", Arrays.stream(choices).map(choice -> choice.split("=", 2)[0]).toList()));
  }

  private void number(String name, String value, int least, LongConsumer use) {
    if (value.matches("\\d{1,9}") && Integer.parseInt(value) >= least) {
      use.accept(Integer.parseInt(value));
    } else {
      problem(name + " must be a whole number from " + least);
    }
  }

  /** For less than the least the pool would take its default instead. */
  private void millis(String name, String value, int leastSeconds, LongConsumer use) {
    Matcher parts = GO_DURATION.matcher(value);
    if (value.isEmpty() || value.length() > 20 || !parts.matches()) {
      problem(name + " must be a duration such as 1h30m or 90s");
      return;
    }
    long millis = Duration.ofHours(part(parts.group(1), 1))
        .plusMinutes(part(parts.group(2), 1))
        .plusSeconds(part(parts.group(3), 1))
        .plusMillis(part(parts.group(4), 2))
        .toMillis();
    if (millis == 0 || millis >= 1000L * leastSeconds) {
      use.accept(millis);
    } else {
      problem(name + " must be 0s, for no limit, or at least " + leastSeconds + "s");
    }
  }

  private static long part(@Nullable String digitsAndUnit, int unitLength) {
    return digitsAndUnit == null
        ? 0
        : Long.parseLong(digitsAndUnit.substring(0, digitsAndUnit.length() - unitLength));
  }

  // The driver's own form: jdbc:postgresql:[//host:port,.../]database[?name=value&...]

  private void jdbc(String url) {
    int question = url.indexOf('?');
    String base = question < 0 ? url : url.substring(0, question);
    if (firstOf(base, "@&=;") < base.length()) {
      problem("a jdbc:postgresql: URL has no user-info, and its parameters stand behind a ?:"
          + " jdbc:postgresql://host/database?user=...&password=...");
      return;
    }
    StringBuilder open = new StringBuilder();
    boolean afterSecret = false;
    String[] pairs = question < 0 ? new String[0] : url.substring(question + 1).split("&", -1);
    boolean plugIn = Arrays.stream(pairs).anyMatch(PostgresUrl::isPlugIn);
    for (String pair : pairs) {
      if (pair.isEmpty() && !afterSecret) {
        continue;
      }
      int equals = pair.indexOf('=');
      String name = equals < 0 ? pair : pair.substring(0, equals);
      if (FILES.contains(name) && equals == pair.length() - 1) {
        continue;
      }
      PGProperty property = PGProperty.forName(name);
      if (property == null) {
        if (plugIn && equals > 0) {
          // Not in the URL: what it means is for the plug-in alone to say.
          properties.setProperty(
              formDecode("name of a parameter", name),
              formDecode("value of a parameter", pair.substring(equals + 1)));
          continue;
        }
        problem(
            afterSecret
                ? "the parameter after the password is unknown (an & in a password is written %26)"
                : "unknown parameter " + quote(name));
        continue;
      }
      afterSecret = SECRETS.contains(name);
      if (!name.equals("user") && !SECRETS.contains(name)) {
        open.append(open.isEmpty() ? '?' : '&').append(pair);
        problem(property, equals < 0 ? "" : formDecode(name, pair.substring(equals + 1)))
            .ifPresent(this::problem);
        if (name.equals("ApplicationName") && equals > 0) {
          applicationName = emptyToNull(formDecode(name, pair.substring(equals + 1)));
        }
        continue;
      }
      String value = equals < 0 ? "" : formDecode(name, pair.substring(equals + 1));
      switch (name) {
        case "user" -> user = emptyToNull(value);
        case "password" -> password = emptyToNull(value);
        default -> properties.setProperty(name, value);
      }
    }
    jdbcUrl = base + open;
    if (problems.isEmpty() && !PgDataSource.accepts(jdbcUrl)) {
      problem(
          "the database URL is not of the form jdbc:postgresql://host:port/database?name=value&...");
    }
  }

  /**
   * What is wrong with a value that the driver would refuse only once it connects, in a way that can pass, or would
   * take for another: any word but true is false to it, and {@code ssl=yes} asks for no TLS.
   */
  static Optional<String> problem(PGProperty property, String value) {
    String name = property.getName();
    String usual = Objects.requireNonNullElse(property.getDefaultValue(), "");
    String[] choices = property.getChoices();
    if (OTHER_VALUES.contains(property) || (property == PGProperty.SSL && value.isEmpty())) {
      return Optional.empty();
    }
    if (property == PGProperty.SSL || usual.equals("true") || usual.equals("false")) {
      return unless(value.matches("(?i)true|false"), name + " must be true or false");
    }
    if (choices == null) {
      boolean good = !isWholeNumber(usual) || isWholeNumber(value);
      return unless(good, name + " must be a whole number");
    }
    boolean anyCase = ANY_CASE.contains(property);
    return unless(
        Arrays.stream(choices).anyMatch(anyCase ? value::equalsIgnoreCase : value::equals),
        name + " must be one of " + String.join(", ", choices));
  }

  private static Optional<String> unless(boolean good, String problem) {
    return good ? Optional.empty() : Optional.of(problem);
  }

  /** As the driver reads it. */
  private static boolean isWholeNumber(String text) {
    try {
      Integer.parseInt(text);
      return true;
    } catch (NumberFormatException invalid) {
      return false;
    }
  }

  private static boolean isPlugIn(String pair) {
    int equals = pair.indexOf('=');
    return equals > 0 && equals < pair.length() - 1 && PLUG_INS.contains(pair.substring(0, equals));
  }

  /** Whether the driver, or a plug-in of it that the settings name, may know a setting of this name. */
  static boolean isSetting(String name, Properties settings, String jdbcUrl) {
    return PGProperty.forName(name) != null
        || settings.stringPropertyNames().stream().anyMatch(PLUG_INS::contains)
        || Arrays.stream(jdbcUrl.split("[?&]", -1)).anyMatch(PostgresUrl::isPlugIn);
  }

  private String formDecode(String what, String raw) {
    try {
      return URLDecoder.decode(raw, StandardCharsets.UTF_8);
    } catch (IllegalArgumentException invalid) {
      badEncoding(what);
      return "";
    }
  }

  /** Percent-decoding as libpq does it: a plus sign is a plus sign. */
  private String decode(String what, String raw) {
    if (raw.indexOf('%') < 0) {
      return raw;
    }
    byte[] encoded = raw.getBytes(StandardCharsets.UTF_8);
    ByteBuffer decoded = ByteBuffer.allocate(encoded.length);
    for (int i = 0; i < encoded.length; i++) {
      if (encoded[i] != '%') {
        decoded.put(encoded[i]);
        continue;
      }
      int high = i + 2 < encoded.length ? Character.digit(encoded[i + 1], 16) : -1;
      int low = i + 2 < encoded.length ? Character.digit(encoded[i + 2], 16) : -1;
      if (high < 0 || low < 0 || (high == 0 && low == 0)) {
        badEncoding(what);
        return "";
      }
      decoded.put((byte) (high << 4 | low));
      i += 2;
    }
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(decoded.flip()).toString();
    } catch (CharacterCodingException invalid) {
      badEncoding(what);
      return "";
    }
  }

  private void badEncoding(String what) {
    problem("the " + what + " is not percent-encoded UTF-8 (a % is written %25)");
  }

  private static int firstOf(String text, String characters) {
    for (int i = 0; i < text.length(); i++) {
      if (characters.indexOf(text.charAt(i)) >= 0) {
        return i;
      }
    }
    return text.length();
  }

  private static String quote(String name) {
    return "\""
        + (name.length() > 64 ? name.substring(0, 64) + "..." : name).replaceAll("[^\\w.-]", "?")
        + "\"";
  }

  private static @Nullable String emptyToNull(String text) {
    return text.isEmpty() ? null : text;
  }
}
