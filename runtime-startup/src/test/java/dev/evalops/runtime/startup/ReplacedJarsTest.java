package dev.evalops.runtime.startup;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.File;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** An update has put other jars in the place of those of a process that runs: no class can be loaded any more. */
class ReplacedJarsTest {
  /** Run in a class loader of its own. */
  public static final class Open implements Callable<AutoCloseable> {
    @Override
    public AutoCloseable call() {
      Lifecycle life = Lifecycle.open();
      life.add("resource", () -> {
        throw new NoClassDefFoundError("of this resource");
      });
      return life;
    }
  }

  private static final class Jars extends URLClassLoader {
    private volatile boolean replaced;

    Jars(List<URL> urls) {
      super(urls.toArray(URL[]::new), ClassLoader.getPlatformClassLoader());
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
      if (replaced) {
        throw new ClassNotFoundException(name);
      }
      return super.findClass(name);
    }
  }

  @Test
  void closeEnds_andNamesWhatHasFailed() throws Exception {
    List<URL> urls = new ArrayList<>();
    String path =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    for (String entry : path.split(File.pathSeparator, -1)) {
      urls.add(Path.of(entry).toUri().toURL());
    }
    try (Jars jars = new Jars(urls)) {
      Callable<?> open = (Callable<?>)
          jars.loadClass(Open.class.getName()).getDeclaredConstructor().newInstance();
      AutoCloseable life = (AutoCloseable) open.call();
      jars.replaced = true;
      CompletableFuture<Throwable> ended = new CompletableFuture<>();
      Thread.ofPlatform().daemon().start(() -> {
        try {
          life.close();
          ended.complete(new AssertionError("nothing has failed"));
        } catch (Throwable e) {
          ended.complete(e);
        }
      });
      assertThat(ended.get(Duration.ofMinutes(1).toSeconds(), TimeUnit.SECONDS))
          .hasMessage("resource: of this resource");
    }
  }
}
