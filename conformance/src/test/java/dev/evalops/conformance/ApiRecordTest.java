package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.io.StringWriter;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.assertj.core.util.diff.DiffUtils;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.tree.ClassNode;

/** The records of the public API, and the picture of the modules, are those of this build. */
class ApiRecordTest {
  private static final JavaCompiler COMPILER = ToolProvider.getSystemJavaCompiler();
  /** One for all, because it keeps what it has read of the JDK. */
  private static final StandardJavaFileManager FILES =
      COMPILER.getStandardFileManager(null, null, null);

  private static final String JSPECIFY = Path.of(URI.create(
          Nullable.class.getProtectionDomain().getCodeSource().getLocation().toString()))
      .toString();

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

            public abstract class ApiSample<T extends Comparable<? super T>> extends ApiRecordTest.Hidden \
            implements AutoCloseable
              protected ApiSample(java.util.List<? extends @Nullable T>)
              protected abstract void forSubclasses()
              public <E extends Exception> @Nullable T call(java.util.concurrent.Callable<T>, @Nullable String...) \
            throws E, java.io.IOException
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

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "public void m() {} | void m() {}",
        "public void m() {} | public void m() throws java.io.IOException {}",
        "public void m() {} | public final void m() {}",
        "public void m() {} | public static void m() {}",
        "public void m() {} | @Deprecated public void m() {}",
        "public void m(String[] a) {} | public void m(String... a) {}",
        "public <X extends Number> void m() {} | public <X extends Integer> void m() {}",
        "public <X extends Number> void m() {} | public <X extends Number & Runnable> void m() {}",
        "public <X> void m() {} | public <X extends @Nullable Object> void m() {}",
        "public <X extends Exception> void m() throws X {} | public <X extends Exception> void m() {}",
        "public void m(List<String> a) {} | public void m(List<? extends String> a) {}",
        "public void m(List<String> a) {} | public void m(List<@Nullable String> a) {}",
        "public void m(List<?> a) {} | public void m(List<? extends @Nullable Object> a) {}",
        "public void m(Map.Entry<String, String> a) {} | public void m(Map.Entry<String, @Nullable String> a) {}",
        "public void m(Object a) {} | public void m(@Nullable Object a) {}",
        "public void m(Object a, Object b) {} | public void m(Object a, @Nullable Object b) {}",
        "public String m() { return \"\"; } | public @Nullable String m() { return \"\"; }",
        "public String[] m() { return null; } | public @Nullable String[] m() { return null; }",
        "public String[] m() { return null; } | public String @Nullable [] m() { return null; }",
        "public static final int A = 1; | public static final int A = 2;",
        "public static final boolean A = true; | public static final boolean A = false;",
        "public List<String> a; | public List<@Nullable String> a;",
        "public record R(int a) {} | public record R(long a) {}",
        "public record R(int a, int b) {} | public record R(int b, int a) {}",
        "public record R(Object a) {} | public record R(@Nullable Object a) {}",
        "public record R(List<Object> a) {} | public record R(List<@Nullable Object> a) {}",
        "public record R(int a) {} | public record R(int a) { public R(int a, int b) { this(a); } }",
        "public @interface A { int a() default 1; } | public @interface A { int a() default 2; }",
        "public @interface A { int a() default 1; } | public @interface A { int a(); }",
        "public @interface A { String[] a() default {}; } | public @interface A { String[] a() default \"\"; }",
        "public @interface A { Class<?> a() default Object.class; } | public @interface A { "
            + "Class<?> a() default String.class; }",
        "public @interface B { int b(); } public @interface A { B a() default @B(b = 1); } | "
            + "public @interface B { int b(); } public @interface A { B a() default @B(b = 2); }",
        "@Target(ElementType.FIELD) public @interface A {} | @Target(ElementType.METHOD) public @interface A {}",
        "@Retention(RetentionPolicy.RUNTIME) public @interface A {} | public @interface A {}",
        "@Inherited public @interface A {} | public @interface A {}",
        "public interface I { void a(); } | public interface I { default void a() {} }",
        "public static class C {} | public static final class C {}",
        "public static class C {} | public class C {}",
        "public static class C {} | public abstract static class C {}",
        "public static class C {} | public static class C { private C() {} }",
        "public static class C {} | public static class C { protected C() {} }",
        "public static class C<T> {} | public static class C<T extends Number> {}",
        "public static class C<T> {} | public static class C<T extends @Nullable Object> {}",
        "public static class C<T extends Runnable & AutoCloseable> {} | public static class C<T "
            + "extends Runnable & @Nullable AutoCloseable> {}",
        "public abstract static class C implements Comparable<String> {} | public abstract static "
            + "class C implements Comparable<Object> {}",
        "public abstract static class C extends Thread {} | public abstract static class C {}",
        "public enum E { A, B } | public enum E { B, A }",
        "public enum E { A, B } | public enum E { A }",
        "public sealed interface S {} public record R() implements S {} | public interface S {} "
            + "public record R() implements S {}",
        "static class H { public void a() {} } public static class C extends H {} | static class "
            + "H { } public static class C extends H {}",
        "public class C { public class D<T> {} } public C.D<String> d; | public class C { public "
            + "class D<T> {} } public C.D<@Nullable String> d;",
        "public class C<T> { public class D<U> {} } public C<String>.D<String> d; | public class "
            + "C<T> { public class D<U> {} } public C<String>.D<@Nullable String> d;",
      })
  void everyChangeShows(String before, String after, @TempDir Path folder) throws IOException {
    assertThat(api(after, folder.resolve("after")))
        .isNotEqualTo(api(before, folder.resolve("before")));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "public void m() {} | public void m() { int a = 1; }",
        "public void m() {} | public synchronized void m() {}",
        "public void m(int a) {} | public void m(int b) {}",
        "void m() {} | private int n;",
        "public record R(int a) {} | public record R(int a) { public R { a++; } }",
      })
  void whatUsersCannotSeeDoesNotShow(String before, String after, @TempDir Path folder)
      throws IOException {
    assertThat(api(after, folder.resolve("after")))
        .isEqualTo(api(before, folder.resolve("before")));
  }

  private static String api(String members, Path folder) throws IOException {
    Path source = Files.createDirectories(folder).resolve("Sample.java");
    Files.writeString(
        source,
        "package p; import java.util.*; import java.lang.annotation.*; import org.jspecify.annotations.Nullable;"
            + " public class Sample { " + members + " }");
    StringWriter problems = new StringWriter();
    boolean compiled = COMPILER
        .getTask(
            problems,
            FILES,
            null,
            List.of("-d", folder.toString(), "-cp", JSPECIFY),
            null,
            FILES.getJavaFileObjects(source))
        .call();
    assertThat(compiled).as("%s: %s", members, problems).isTrue();
    List<ClassNode> classes = new ArrayList<>();
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file :
          files.filter(one -> one.toString().endsWith(".class")).sorted().toList()) {
        ClassNode node = new ClassNode();
        new ClassReader(Files.readAllBytes(file))
            .accept(node, ClassReader.SKIP_CODE | ClassReader.SKIP_DEBUG);
        classes.add(node);
      }
    }
    return PublicApi.of(classes).text();
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
