package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
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
    assertThat(allowed)
        .as(
            "packages of %s: what is not public API is package-private; only an optional library has a sub-package, named in the row",
            module)
        .containsAll(packages().keySet());
  }

  @Test
  void everyPackageIsNullMarked() {
    packages()
        .forEach((name, classes) -> assertThat(classes)
            .as("package %s needs a package-info.java with @NullMarked", name)
            .anyMatch(type -> type.name.endsWith("/package-info")
                && type.visibleAnnotations != null
                && type.visibleAnnotations.stream()
                    .anyMatch(annotation ->
                        annotation.desc.equals("Lorg/jspecify/annotations/NullMarked;"))));
  }

  @Test
  void hasOneToEightPublicTypes() {
    assertThat(
            module.classes().stream().filter(LayoutTest::isPublicTopLevel).map(type -> type.name))
        .as(
            "public top-level types of %s: when it wants to be more than eight, it does too much",
            module)
        .hasSizeBetween(1, 8);
  }

  @Test
  void isCompiledForItsRelease() {
    assertThat(module.classes())
        .as("%s is compiled for Java %d: set maven.compiler.release", module, row.release())
        .allMatch(type -> (type.version & 0xFFFF) == row.release() + 44);
  }

  @Test
  void hasAReadme() {
    assertThat(module.path("README.md"))
        .as("what it is for, the import, the lines that use it, its defaults")
        .isNotEmptyFile();
  }

  private Map<String, List<ClassNode>> packages() {
    return module.classes().stream()
        .collect(Collectors.groupingBy(
            type -> type.name.substring(0, type.name.lastIndexOf('/')).replace('/', '.')));
  }

  private static boolean isPublicTopLevel(ClassNode type) {
    return (type.access & Opcodes.ACC_PUBLIC) != 0
        && !type.name.contains("$")
        && !type.name.endsWith("/package-info");
  }
}
