package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.natsbus.spool.SpooledPublisher;
import java.io.File;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A service without OpenTelemetry and Micrometer on its class path. */
class OptionalLibrariesTest {
  private static final List<String> HIDDEN = List.of("opentelemetry", "micrometer", "prometheus");

  /** Spring asks a class for all its methods when it makes a bean of it. */
  @ParameterizedTest
  @ValueSource(classes = {NatsBus.class, EventConsumer.class, SpooledPublisher.class})
  void letContainersLookAtWhatIsOpened(Class<?> type) throws Exception {
    String path =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    List<URL> left = new ArrayList<>();
    for (String entry : path.split(File.pathSeparator, -1)) {
      if (HIDDEN.stream().noneMatch(Path.of(entry).getFileName().toString()::contains)) {
        left.add(Path.of(entry).toUri().toURL());
      }
    }
    try (URLClassLoader loader =
        new URLClassLoader(left.toArray(URL[]::new), ClassLoader.getPlatformClassLoader())) {
      Class<?> seen = loader.loadClass(type.getName());
      assertThat(seen.getDeclaredMethods()).isNotEmpty();
      assertThat(seen.getDeclaredConstructors()).isNotEmpty();
      assertThat(seen.getDeclaredFields()).isNotEmpty();
    }
  }
}
