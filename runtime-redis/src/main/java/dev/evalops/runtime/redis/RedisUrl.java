package dev.evalops.runtime.redis;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import io.lettuce.core.RedisURI;
import io.lettuce.core.StaticCredentialsProvider;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads a URL as Lettuce does, and refuses what Lettuce would pass over in silence. No message holds a piece of the URL
 * but the name of a parameter, and none has a cause, for those repeat the URL.
 */
final class RedisUrl {
  private static final Set<String> SCHEMES =
      Set.of("redis", "rediss", "redis+ssl", "redis+tls", "redis-sentinel", "rediss-sentinel");
  private static final Set<String> PARAMETERS = Set.of(
      "timeout",
      "database",
      "db",
      "clientname",
      "libraryname",
      "libraryversion",
      "verifypeer",
      "sentinelmasterid");

  private static final Pattern NODES = Pattern.compile(
      "(?<before>rediss?://(?:[^/?#@]*@)?)(?<hosts>[^/?#@]+)(?<path>/[^?#]*)?(?<query>\\?.*)?");

  private static final String NAME = "[!-~]*";

  /** Of commands, where the URL has none: Lettuce's own is a minute. */
  static final Duration COMMAND_TIMEOUT = Duration.ofSeconds(3);

  private RedisUrl() {}

  /**
   * Reads a URL.
   *
   * @throws IllegalArgumentException if Redis cannot be reached by it
   */
  static RedisURI parse(String url) {
    checkSet(url);
    URI uri = uri(url);
    Set<String> names = new HashSet<>();
    if (uri.getQuery() != null) {
      // Decoded first and then split, as Lettuce does it.
      for (String parameter : uri.getQuery().split("[&;]", -1)) {
        if (parameter.isEmpty()) {
          continue;
        }
        String[] parts = parameter.split("=", 2);
        String name = parts[0].toLowerCase(Locale.ROOT);
        if (!PARAMETERS.contains(name) || parts.length == 1) {
          throw refused("unknown parameter \"" + parts[0].replaceAll("[^\\w.-]", "?")
              + "\"; known are timeout, database, clientName,"
              + " libraryName, libraryVersion, verifyPeer and sentinelMasterId");
        }
        checkValue(name, parts[1]);
        if (!names.add(name.equals("db") ? "database" : name)) {
          throw refused(name + " is given twice");
        }
      }
    }
    if (names.contains("database") && uri.getPath() != null && uri.getPath().length() > 1) {
      throw refused("the database is given twice, in the path and as a parameter");
    }
    boolean sentinels = uri.getScheme().contains("sentinel");
    if (!sentinels && (uri.getFragment() != null || names.contains("sentinelmasterid"))) {
      throw refused("only redis-sentinel:// knows the name of a master (#name)");
    }
    if (uri.getFragment() != null && names.contains("sentinelmasterid")) {
      throw refused("the name of the master is given twice, behind the # and as a parameter");
    }
    if (uri.getPort() == 0) {
      throw refused("the port must be 1 to 65535");
    }
    RedisURI parsed;
    try {
      parsed = RedisURI.create(uri);
    } catch (RuntimeException invalid) {
      throw refused(
          "a host, a port (1 to 65535), a database number or, for sentinels, the name of the "
              + "master (#name) is missing or wrong");
    }
    logIn(parsed, uri.getRawAuthority());
    if (!names.contains("timeout")) {
      parsed.setTimeout(COMMAND_TIMEOUT);
    }
    return parsed;
  }

  /**
   * Reads the URL of one or more nodes of a cluster, {@code redis://user:password@host1:6379,host2:6379}.
   *
   * @throws IllegalArgumentException if Redis cannot be reached by it
   */
  static List<RedisURI> parseNodes(String url) {
    checkSet(url);
    Matcher parts = NODES.matcher(url);
    if (!parts.matches()) {
      throw refused("it must begin with redis:// or rediss://, and name a host");
    }
    String path = Objects.requireNonNullElse(parts.group("path"), "");
    if (!path.isEmpty() && !path.equals("/") && !path.equals("/0")) {
      throw refused("a cluster has database 0 alone");
    }
    List<RedisURI> nodes = new ArrayList<>();
    for (String node : parts.group("hosts").split(",", -1)) {
      if (node.isEmpty()) {
        throw refused("the host is missing between two commas");
      }
      nodes.add(parse(
          parts.group("before") + node + Objects.requireNonNullElse(parts.group("query"), "")));
    }
    return nodes;
  }

  /** Lettuce decodes first and then looks for the colon, which may be part of the name. */
  private static void logIn(RedisURI parsed, String authority) {
    String userInfo = authority.substring(0, Math.max(0, authority.lastIndexOf('@')));
    int colon = userInfo.indexOf(':');
    String user = decoded(userInfo.substring(0, Math.max(0, colon)));
    char[] password = decoded(userInfo.substring(colon + 1)).toCharArray();
    if (!user.isEmpty() || password.length > 0) {
      parsed.setCredentialsProvider(
          new StaticCredentialsProvider(user.isEmpty() ? null : user, password));
    }
  }

  /**
   * Each byte is a character of Latin-1 first, so that what is no UTF-8 is told from {@code %EF%BF%BD}. U+FFFD itself
   * is what Java makes of an environment variable that is outside ASCII, in the locale C.
   */
  private static String decoded(String part) {
    String bytes = new String(part.replace("+", "%2B").getBytes(UTF_8), ISO_8859_1);
    try {
      if (part.indexOf('\ufffd') >= 0) {
        throw new CharacterCodingException();
      }
      return UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(URLDecoder.decode(bytes, ISO_8859_1).getBytes(ISO_8859_1)))
          .toString();
    } catch (CharacterCodingException invalid) {
      throw refused("the user name or password is not percent-encoded UTF-8 (a % is written %25)");
    }
  }

  /** Lettuce takes its default instead of a value that it cannot read, and a whole number out of a fraction. */
  private static void checkValue(String name, String value) {
    switch (name) {
      case "timeout" -> {
        require(value, "(?i)\\d{1,18}(ns|us|ms|s|m|h|d)?", "timeout must be like 500ms or 2s");
        if (isForEver(value.toLowerCase(Locale.ROOT))) {
          throw refused("timeout must be less than 292 years");
        }
      }
      case "database", "db" -> require(value, "\\d{1,9}", "database must be a number");
      case "verifypeer" ->
        require(value, "(?i)full|ca|none", "verifyPeer must be FULL, CA or NONE");
      // What the server refuses, and so each attempt to connect.
      case "clientname" -> require(value, NAME, "clientName must be ASCII without blanks");
      case "libraryname" -> require(value, NAME, "libraryName must be ASCII without blanks");
      case "libraryversion" -> require(value, NAME, "libraryVersion must be ASCII without blanks");
      default -> {}
    }
  }

  private static boolean isForEver(String timeout) {
    String unit = timeout.replaceFirst("\\d+", "");
    TimeUnit of = switch (unit) {
      case "ns" -> TimeUnit.NANOSECONDS;
      case "us" -> TimeUnit.MICROSECONDS;
      case "s" -> TimeUnit.SECONDS;
      case "m" -> TimeUnit.MINUTES;
      case "h" -> TimeUnit.HOURS;
      case "d" -> TimeUnit.DAYS;
      default -> TimeUnit.MILLISECONDS;
    };
    long number = Long.parseLong(timeout.substring(0, timeout.length() - unit.length()));
    return of.toNanos(number) == Long.MAX_VALUE;
  }

  private static void require(String value, String pattern, String problem) {
    if (!value.matches(pattern)) {
      throw refused(problem);
    }
  }

  private static void checkSet(String url) {
    if (url.isBlank()) {
      throw refused("the Redis URL is not set; it must begin with redis:// or rediss://");
    }
  }

  private static URI uri(String url) {
    if (!SCHEMES.contains(url.substring(0, Math.max(0, url.indexOf(':'))))) {
      throw refused("it must begin with redis://, rediss:// or redis-sentinel://");
    }
    URI uri;
    try {
      uri = new URI(url);
    } catch (URISyntaxException invalid) {
      throw refused(
          "it is not a URL: in a user name or password, what is neither letter nor digit is "
              + "percent-encoded (/ as %2F, # as %23)");
    }
    boolean sentinels = uri.getScheme().contains("sentinel");
    if (uri.getRawAuthority() != null
        && url.lastIndexOf('@')
            > url.indexOf(uri.getRawAuthority()) + uri.getRawAuthority().length()) {
      // The user-info was cut by a raw delimiter: any other complaint could show a piece of it.
      throw refused("in a user name or password write / as %2F, ? as %3F and # as %23");
    }
    if (!sentinels && uri.getHost() == null) {
      throw refused("the host is missing or no host name (letters, digits, - and .)");
    }
    return uri;
  }

  private static IllegalArgumentException refused(String why) {
    return new IllegalArgumentException("parse_redis_url: " + why);
  }
}
