package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.assertj.core.util.diff.DiffUtils;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.tree.ClassNode;

/** The records of the public API, and the picture of the modules, are those of this build. */
class ApiRecordTest {
  static List<Module> published() {
    return Checkout.published();
  }

  @ParameterizedTest
  @MethodSource("published")
  void recordIsThePublicApi(Module module) throws IOException {
    compare(module.path("api.txt"), PublicApi.recordOf(module));
  }

  @Test
  void pictureShowsTheModules() throws IOException {
    compare(ModuleGraph.FILE, ModuleGraph.svg());
  }

  @Test
  void writesGenericsNullnessAndExceptionsAsJavaHasThem() throws IOException {
    String sample = ApiSample.class.getName().replace('.', '/');
    List<ClassNode> classes = Arrays.asList(
        read(sample),
        read(Hidden.class.getName().replace('.', '/')),
        read(sample + "$Mode"),
        read(sample + "$Pair"),
        read(sample + "$Shape"));
    assertThat(PublicApi.of(classes).text()).isEqualTo("""

            package dev.evalops.conformance

            public abstract class ApiSample<T extends Comparable<? super T>> extends ApiRecordTest.Hidden implements AutoCloseable
              protected ApiSample(java.util.List<? extends @Nullable T>)
              protected abstract void forSubclasses()
              public <E extends Exception> @Nullable T call(java.util.concurrent.Callable<T>, @Nullable String...) throws E, java.io.IOException
              public String inherited()
              public byte @Nullable [] bytes()
              public static final int LIMIT = 7
              public void close()

            public enum ApiSample.Mode
              SLOW
              FAST
              public boolean isFast()

            public record ApiSample.Pair(String name, @Nullable Integer value) implements ApiSample.Shape
              public double area()

            public sealed interface ApiSample.Shape permits ApiSample.Pair
              public default String text()
              public double area()
            """);
  }

  /** Hands a public method on. */
  abstract static class Hidden {
    public String inherited() {
      return "";
    }
  }

  private static ClassNode read(String name) throws IOException {
    ClassNode node = new ClassNode();
    new ClassReader(name).accept(node, ClassReader.SKIP_CODE | ClassReader.SKIP_DEBUG);
    return node;
  }

  /** Fails with the lines that differ. */
  private static void compare(Path file, String expected) throws IOException {
    List<String> recorded = Files.exists(file) ? Files.readAllLines(file) : List.of();
    List<String> built = expected.lines().toList();
    if (!recorded.equals(built)) {
      String name = Checkout.ROOT.relativize(file).toString();
      List<String> diff = recorded.isEmpty()
          ? Collections.emptyList()
          : DiffUtils.generateUnifiedDiff(
              name, name + " (of this build)", recorded, DiffUtils.diff(recorded, built), 1);
      fail(
          "%s is not what was built. When that is meant: make api, and commit it.%n%s",
          name, String.join("\n", diff));
    }
  }
}
