package dev.evalops.runtime.natsbus;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Takes the setting apart that says where NATS is. A password with a raw {@code /} or comma would be cut in pieces that
 * pass for hosts, ports and paths, and come out in messages: so nothing goes to the client that is not certainly a URL,
 * and what is said of others holds no piece of them.
 */
final class NatsUrl {
  private static final String OTHER_LETTERS = "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}&&[^\\x00-\\x7F]";
  private static final Pattern SERVER = Pattern.compile(
      "(?<scheme>(?<ws>wss?)://|(?:nats|tls|opentls)://)?"
          + "(?<user>(?:[\\w.~!$&'()*+;=:-]|%[0-9A-Fa-f]{2}|[" + OTHER_LETTERS + "])*+@)?"
          + "(?:[\\w.-]+|\\[[\\w:.%-]+])(?::(?<port>\\d{1,5}))?"
          + "(?<path>/[\\w.~/-]*)?",
      Pattern.CASE_INSENSITIVE);
  private static final String PROBLEM =
      "url must be nats://user:password@host:4222, or several with commas between them; in user and"
          + " password write / as %2F, a comma as %2C, and so on for all that is special in a URL";

  private NatsUrl() {}

  private static boolean isPort(@Nullable String port) {
    return port == null || (Integer.parseInt(port) >= 1 && Integer.parseInt(port) <= 65535);
  }

  /** The servers; none, and a problem, if one of them is no URL. */
  static List<String> servers(String url, List<String> problems) {
    List<String> servers = new ArrayList<>();
    for (String each : url.strip().split(",", -1)) {
      String server = each.strip();
      Matcher parts = SERVER.matcher(server);
      boolean valid = parts.matches()
          && isPort(parts.group("port"))
          && (parts.group("path") == null
              || parts.group("path").equals("/")
              || parts.group("ws") != null)
          // Else it may be what follows the comma in a password.
          && (servers.isEmpty() || parts.group("user") == null || parts.group("scheme") != null);
      if (!valid) {
        problems.add(PROBLEM);
        return List.of();
      }
      servers.add(server);
    }
    return servers;
  }
}
