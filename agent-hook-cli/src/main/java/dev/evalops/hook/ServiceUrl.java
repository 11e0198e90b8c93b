package dev.evalops.hook;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.Locale;

/**
 * Where a service is.
 *
 * @param authority host and port as the URL has them
 * @param host without the brackets of an IPv6 address
 * @param path empty, or with a slash at the beginning and none at the end
 * @param plainAnywhere whether plain http may leave the machine
 */
record ServiceUrl(
    boolean tls, String authority, String host, int port, String path, boolean plainAnywhere) {
  private static final String[] GOVERNANCE = {
    "/governance.v1.GovernanceService/EvaluateAction", "/governance.v1.GovernanceService"
  };
  private static final String[] APPROVALS = {
    "/approvals.v1.ApprovalService/RequestApproval",
    "/approvals.v1.ApprovalService/GetApproval",
    "/approvals.v1.ApprovalService"
  };

  static String governanceBase(String url) {
    return base(url, GOVERNANCE);
  }

  static String approvalsBase(String url) {
    return base(url, APPROVALS);
  }

  /** Removes the known suffixes and slashes from the end, in whatever order they come. */
  private static String base(String url, String[] suffixes) {
    String base = GoText.trim(url);
    for (int length = -1; length != base.length(); ) {
      length = base.length();
      for (String suffix : suffixes) {
        if (base.endsWith(suffix)) {
          base = base.substring(0, base.length() - suffix.length());
        }
      }
      while (base.endsWith("/")) {
        base = base.substring(0, base.length() - 1);
      }
    }
    return base;
  }

  /**
   * Reads a base URL.
   *
   * @throws IllegalArgumentException if it cannot be used; the message completes "the URL …"
   */
  static ServiceUrl parse(String base, boolean plainAnywhere) {
    for (int i = 0; i < base.length(); i++) {
      if (base.charAt(i) <= ' ' || base.charAt(i) > '~') {
        throw new IllegalArgumentException("is not a URL");
      }
    }
    URI uri;
    try {
      uri = new URI(base);
    } catch (URISyntaxException e) {
      throw new IllegalArgumentException("is not a URL", e);
    }
    String scheme = uri.getScheme() == null ? "" : uri.getScheme().toLowerCase(Locale.ROOT);
    boolean tls = scheme.equals("https");
    if (!tls && !scheme.equals("http")) {
      throw new IllegalArgumentException("must begin with https:// or http://");
    }
    String host = uri.getHost();
    if (host == null) {
      throw new IllegalArgumentException("has no valid host");
    }
    if (uri.getRawUserInfo() != null || uri.getRawQuery() != null || uri.getRawFragment() != null) {
      throw new IllegalArgumentException("must have no user, query or fragment");
    }
    int port = uri.getPort() == -1 ? (tls ? 443 : 80) : uri.getPort();
    if (port < 1 || port > 65535) {
      throw new IllegalArgumentException("has no valid port");
    }
    String bare = host.startsWith("[") ? host.substring(1, host.length() - 1) : host;
    if (!tls && !plainAnywhere && !isLoopback(bare)) {
      throw new IllegalArgumentException(
          "must begin with https://, as its host is not this machine (or set "
              + Settings.ALLOW_INSECURE_HTTP + "=true)");
    }
    return new ServiceUrl(tls, uri.getRawAuthority(), bare, port, uri.getRawPath(), plainAnywhere);
  }

  private static boolean isLoopback(String host) {
    if (host.equalsIgnoreCase("localhost") || host.equals("::1")) {
      return true;
    }
    if (!host.startsWith("127.")) {
      return false;
    }
    for (int i = 0; i < host.length(); i++) {
      char c = host.charAt(i);
      if (c != '.' && (c < '0' || c > '9')) {
        return false; // a name, whose address is anybody's
      }
    }
    return true;
  }
}
