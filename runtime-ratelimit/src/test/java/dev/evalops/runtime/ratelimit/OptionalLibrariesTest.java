package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A service without Lettuce and Micrometer on its class path. */
class OptionalLibrariesTest {
  private static final List<String> HIDDEN =
      List.of("lettuce", "netty", "reactor", "micrometer", "prometheus", "runtime-redis");

  private static List<String> classPath() {
    String path =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    List<String> left = new ArrayList<>();
    for (String entry : path.split(File.pathSeparator, -1)) {
      String name = Path.of(entry).toString();
      if (HIDDEN.stream().noneMatch(name::contains)) {
        left.add(entry);
      }
    }
    return left;
  }

  /** Run in a class loader that has nothing of the hidden libraries. */
  public static final class Use implements Callable<String> {
    @Override
    public String call() {
      try (RateLimiter limiter = RateLimiter.builder()
          .perSecond(1)
          .burst(1)
          .exemptPaths("/healthz")
          .trustedProxies(TrustedProxies.of("10.0.0.0/8"))
          .rateLimitHeaders()
          .open()) {
        boolean first = limiter.decide("a").allowed();
        boolean second = limiter.decide("a").allowed();
        return first + " " + second + " " + limiter.filter().description();
      }
    }
  }

  @Test
  void worksWithoutLettuceAndMicrometer() throws Exception {
    List<URL> urls = new ArrayList<>();
    for (String entry : classPath()) {
      urls.add(Path.of(entry).toUri().toURL());
    }
    try (URLClassLoader bare =
        new URLClassLoader(urls.toArray(URL[]::new), ClassLoader.getPlatformClassLoader())) {
      assertThatThrownBy(() -> bare.loadClass("io.lettuce.core.api.StatefulRedisConnection"))
          .isInstanceOf(ClassNotFoundException.class);
      assertThatThrownBy(() -> bare.loadClass("io.micrometer.core.instrument.MeterRegistry"))
          .isInstanceOf(ClassNotFoundException.class);
      Object use = bare.loadClass(Use.class.getName()).getConstructor().newInstance();

      assertThat(call(use)).isEqualTo("true false rate limit");
      assertThat(use.getClass()).isNotEqualTo(Use.class);
    }
  }

  private static Object call(Object use) throws Exception {
    try {
      return use.getClass().getMethod("call").invoke(use);
    } catch (InvocationTargetException e) {
      throw new AssertionError(e.getCause());
    }
  }

  @Test
  void compilesWithoutLettuceAndMicrometer(@TempDir Path directory) throws Exception {
    Path source = directory.resolve("Consumer.java");
    Files.writeString(source, """
        import dev.evalops.runtime.ratelimit.RateLimiter;
        final class Consumer {
          static final RateLimiter LIMITER =
              RateLimiter.builder().perSecond(100).burst(200).service("notes").open();
          static boolean ask() {
            return LIMITER.decide("a").allowed();
          }
        }
        """);

    int errors = ToolProvider.getSystemJavaCompiler()
        .run(
            null,
            null,
            null,
            "-Xlint:all,-path,-classfile",
            "-d",
            directory.toString(),
            "-cp",
            String.join(File.pathSeparator, classPath()),
            source.toString());

    assertThat(errors).isZero();
  }
}
