package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.jar.JarFile;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.tree.ClassNode;

/** Every published module is laid out the same way. */
@ParameterizedClass
@MethodSource("published")
class LayoutTest {
  private final Module module;
  private final ModuleTable.Row row;

  LayoutTest(Module module) {
    this.module = module;
    this.row = ModuleTable.of(module.folder());
  }

  static List<Module> published() {
    return Checkout.published();
  }

  @Test
  void artifactIsNamedLikeItsFolder() {
    assertThat(module.pom().getArtifactId())
        .as("artifactId of %s", module)
        .isEqualTo(module.folder());
  }

  @Test
  void moduleNameIsItsPackage() throws IOException {
    assertThat(module.pom().getProperties().getProperty("module.name"))
        .as("property module.name in the pom of %s", module)
        .isEqualTo(row.packageName());
    try (JarFile jar = new JarFile(module.jar().toFile())) {
      assertThat(jar.getManifest().getMainAttributes().getValue("Automatic-Module-Name"))
          .as("Automatic-Module-Name in %s", module.jar())
          .isEqualTo(row.packageName());
    }
  }

  @Test
  void hasOnePackageAndTheAdaptersOfItsRow() {
    Set<String> allowed = new TreeSet<>(Set.of(row.packageName()));
    row.adapters().keySet().forEach(name -> allowed.add(row.packageName() + "." + name));
    assertThat(packages(type -> true))
        .as(
            "packages of %s: what is not public API is package-private; only an optional library "
                + "has a sub-package, named in the row",
            module)
        .isSubsetOf(allowed);
  }

  @Test
  void everyPackageIsNullMarked() {
    assertThat(packages(LayoutTest::isNullMarked))
        .as("packages of %s whose package-info.java has @NullMarked", module)
        .containsAll(packages(type -> true));
  }

  @Test
  void hasOneToEightPublicTypes() {
    assertThat(
            module.classes().stream().filter(LayoutTest::isPublicTopLevel).map(type -> type.name))
        .as(
            "public top-level types of %s: when it wants to be more than eight, it does too much",
            module)
        // Three kinds of server, alone and as clusters, for each an extension of JUnit, and a
        // network.
        .hasSizeBetween(1, module.toString().equals("runtime-testutil") ? 12 : 8);
  }

  @Test
  void isCompiledForItsRelease() {
    assertThat(module.classes().stream()
            .filter(type -> (type.version & 0xFFFF) != row.release() + 44)
            .map(type -> type.name))
        .as(
            "classes of %s that are not for Java %d: set maven.compiler.release",
            module, row.release())
        .isEmpty();
  }

  @Test
  void hasAReadmeOfAScreen() throws IOException {
    assertThat(Files.readAllLines(module.path("README.md")))
        .as(
            "%s: what it is for, the import, the lines that use it, its defaults; more in docs",
            module)
        .hasSizeBetween(10, 50);
  }

  private Set<String> packages(Predicate<ClassNode> withA) {
    return module.classes().stream()
        .filter(withA)
        .map(type -> type.name.substring(0, type.name.lastIndexOf('/')).replace('/', '.'))
        .collect(Collectors.toCollection(TreeSet::new));
  }

  private static boolean isNullMarked(ClassNode type) {
    return type.name.endsWith("/package-info")
        && type.visibleAnnotations != null
        && type.visibleAnnotations.stream()
            .anyMatch(
                annotation -> annotation.desc.equals("Lorg/jspecify/annotations/NullMarked;"));
  }

  /** What protoc writes does not count: it is the vocabulary of the wire. */
  private static boolean isPublicTopLevel(ClassNode type) {
    return (type.access & Opcodes.ACC_PUBLIC) != 0
        && !PublicApi.isGenerated(type)
        && !type.name.contains("$")
        && !type.name.endsWith("/package-info");
  }
}
