package dev.evalops.runtime.redis;

import io.lettuce.core.RedisURI;
import java.net.URI;
import java.net.URISyntaxException;
import java.time.Duration;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;

/**
 * Reads a URL as Lettuce does, and refuses what Lettuce would pass over in silence. No message holds a piece of the URL but the
 * name of a parameter, and none has a cause, for those repeat the URL.
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

  /** Of commands, where the URL has none: Lettuce's own is a minute. */
  static final Duration COMMAND_TIMEOUT = Duration.ofSeconds(3);

  private RedisUrl() {}

  /**
   * Reads a URL.
   *
   * @throws IllegalArgumentException if Redis cannot be reached by it
   */
  static RedisURI parse(String url) {
    URI uri = uri(url);
    Set<String> names = new HashSet<>();
    if (uri.getRawQuery() != null) {
      for (String parameter : uri.getRawQuery().split("[&;]", -1)) {
        String name = parameter.split("=", 2)[0];
        if (!PARAMETERS.contains(name.toLowerCase(Locale.ROOT)) || parameter.indexOf('=') < 0) {
          throw refused("unknown parameter \"" + name.replaceAll("[^\\w.-]", "?")
              + "\"; known are timeout, database, clientName,"
              + " libraryName, libraryVersion, verifyPeer and sentinelMasterId");
        }
        names.add(name.toLowerCase(Locale.ROOT));
      }
    }
    RedisURI parsed;
    try {
      parsed = RedisURI.create(uri);
    } catch (RuntimeException invalid) {
      throw refused(
          "a host, a port (1 to 65535), a database number or, for sentinels, the name of the master (#name) is missing or wrong");
    }
    if (!names.contains("timeout")) {
      parsed.setTimeout(COMMAND_TIMEOUT);
    }
    return parsed;
  }

  private static URI uri(String url) {
    URI uri;
    try {
      uri = new URI(url);
    } catch (URISyntaxException invalid) {
      throw refused(
          "it is no URL: in a user name or password, what is neither letter nor digit is percent-encoded (/ as %2F, # as %23)");
    }
    if (uri.getScheme() == null || !SCHEMES.contains(uri.getScheme())) {
      throw refused("it must begin with redis://, rediss:// or redis-sentinel://");
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
