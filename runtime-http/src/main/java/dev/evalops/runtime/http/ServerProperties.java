package dev.evalops.runtime.http;

import com.sun.net.httpserver.spi.HttpServerProvider;
import java.lang.management.ManagementFactory;
import java.lang.management.PlatformManagedObject;
import java.util.LinkedHashMap;
import java.util.Map;
import org.slf4j.Logger;

/**
 * System properties that the JDK's server reads once, when its first server is created; several of its defaults are "no
 * limit". What is set already is left as it is.
 */
final class ServerProperties {
  private static final String PROVIDER = "sun.net.httpserver.DefaultHttpServerProvider";
  private static final String PARALLELISM = "jdk.virtualThreadScheduler.parallelism";
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

  /** Whether this version reads some chunk sizes and headers in another way than proxies do. */
  static boolean isUnpatched(Runtime.Version version) {
    Runtime.Version floor = switch (version.feature()) {
      case 21 -> Runtime.Version.parse("21.0.13");
      case 25 -> Runtime.Version.parse("25.0.5");
      default -> Runtime.Version.parse("27.0.1");
    };
    return version.compareToIgnoreOptional(floor) < 0;
  }

  /**
   * Gives virtual threads a second carrier where the JVM sees one processor. With one, the server's dispatcher and the
   * threads that it wakes wait for each other's time slices. Does nothing if {@code
   * jdk.virtualThreadScheduler.parallelism} is set, or the scheduler has more already.
   */
  static void useTwoCarriers(Logger log) {
    if (Runtime.getRuntime().availableProcessors() > 1 || System.getProperty(PARALLELISM) != null) {
      return;
    }
    try {
      // Java 24; the property would be too late for whoever has started a virtual thread before.
      Class<? extends PlatformManagedObject> type = Class.forName(
              "jdk.management.VirtualThreadSchedulerMXBean")
          .asSubclass(PlatformManagedObject.class);
      PlatformManagedObject scheduler = ManagementFactory.getPlatformMXBean(type);
      if (type.getMethod("getParallelism").invoke(scheduler) instanceof Integer now && now > 1) {
        return;
      }
      type.getMethod("setParallelism", int.class).invoke(scheduler, 2);
      log.atInfo()
          .addKeyValue("carriers", 2)
          .log("one processor, virtual threads have two carriers");
    } catch (ReflectiveOperationException | RuntimeException e) {
      log.atWarn()
          .setCause(e)
          .addKeyValue("property", PARALLELISM)
          .log("one processor, virtual threads have one carrier; set the property to 2");
    }
  }

  /**
   * Call before the first server is created.
   *
   * @throws IllegalArgumentException if the server would not be the JDK's: others do not have these limits, or do not
   *     listen at all
   */
  static synchronized void apply(Logger log) {
    String provider = HttpServerProvider.provider().getClass().getName();
    if (!provider.equals(PROVIDER)) {
      throw new IllegalArgumentException(
          "com.sun.net.httpserver.HttpServerProvider must be " + PROVIDER
              + "; take the other one off the class path or set the system property: " + provider);
    }
    if (APPLIED.isEmpty()) {
      if (isUnpatched(Runtime.version())) {
        log.atWarn()
            .addKeyValue("java_version", Runtime.version())
            .log("JDK has known faults in its HTTP server; use 25.0.5, 21.0.13 or later");
      }
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
