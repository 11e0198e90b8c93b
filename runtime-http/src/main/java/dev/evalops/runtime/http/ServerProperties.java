package dev.evalops.runtime.http;

import java.util.LinkedHashMap;
import java.util.Map;
import org.slf4j.Logger;

/**
 * System properties that the JDK's server reads once, when its first server is created; several of its defaults are "no limit".
 * What is set already is left as it is.
 */
final class ServerProperties {
  private static final Map<String, String> DEFAULTS = new LinkedHashMap<>();
  // What this class has seen or set before it created the first server.
  private static final Map<String, String> APPLIED = new LinkedHashMap<>();

  static {
    DEFAULTS.put("sun.net.httpserver.nodelay", "true");
    DEFAULTS.put("sun.net.httpserver.maxReqTime", "30"); // seconds
    DEFAULTS.put("sun.net.httpserver.maxRspTime", "600"); // seconds
    DEFAULTS.put("sun.net.httpserver.idleInterval", "75"); // seconds
    DEFAULTS.put("sun.net.httpserver.maxIdleConnections", "10000");
    DEFAULTS.put("jdk.httpserver.maxConnections", "10000");
    DEFAULTS.put("sun.net.httpserver.maxReqHeaderSize", "32768"); // bytes
    DEFAULTS.put("sun.net.httpserver.maxReqHeaders", "100");
    DEFAULTS.put("sun.net.httpserver.drainAmount", Long.toString(16 << 20)); // bytes
  }

  private ServerProperties() {}

  /** Call before the first server is created. */
  static synchronized void apply(Logger log) {
    if (APPLIED.isEmpty()) {
      boolean late = Thread.getAllStackTraces().keySet().stream()
          .anyMatch(thread -> thread.getName().equals("HTTP-Dispatcher"));
      if (late) {
        log.atWarn()
            .addKeyValue("properties", DEFAULTS)
            .log(
                "another HTTP server was created before in this JVM: time and size limits are those"
                    + " that were set then; set them on the command line");
      }
      DEFAULTS.forEach((name, value) -> {
        if (System.getProperty(name) == null) {
          System.setProperty(name, value);
        }
        APPLIED.put(name, System.getProperty(name));
      });
      return;
    }
    APPLIED.forEach((name, value) -> {
      if (!value.equals(System.getProperty(name))) {
        log.atWarn()
            .addKeyValue("property", name)
            .addKeyValue("effective", value)
            .log(
                "a system property was changed after the first HTTP server was created: no effect");
      }
    });
  }
}
