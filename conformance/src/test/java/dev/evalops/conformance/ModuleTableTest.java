package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.maven.model.Dependency;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A module depends on what its row of the table allows, and on nothing else. */
class ModuleTableTest {
  static List<Module> published() {
    return Checkout.published();
  }

  @ParameterizedTest
  @MethodSource("published")
  void dependsOnlyOnWhatItsRowAllows(Module module) {
    ModuleTable.Row row = ModuleTable.of(module.folder());
    TreeSet<String> optional = new TreeSet<>(row.needs());
    optional.addAll(row.optional());
    assertThat(module.dependencies(dependency -> !isOptional(dependency)))
        .as(
            "%s may not need this: do without it, make it optional if the row has it so, or "
                + "decide on a new row in ModuleTable",
            module)
        .isSubsetOf(row.needs());
    assertThat(module.dependencies(ModuleTableTest::isOptional))
        .as(
            "%s may not use this, not even optionally: do without it, or decide on a new row in ModuleTable",
            module)
        .isSubsetOf(optional);
  }

  @Test
  void everyRuntimeFolderHasARow() throws IOException {
    folders()
        .map(Path::getFileName)
        .map(Path::toString)
        .filter(name -> name.startsWith("runtime-"))
        .filter(name -> !name.equals("runtime-bom"))
        .forEach(ModuleTable::of);
  }

  @Test
  void everyFolderWithAPomIsBuilt() throws IOException {
    List<String> folders = folders()
        .filter(folder -> Files.exists(folder.resolve("pom.xml")))
        .map(folder -> Checkout.ROOT.relativize(folder).toString())
        .toList();
    assertThat(folders)
        .as(
            "folders with a pom: one that is missing in the <modules> of the parent is never built or tested")
        .isSubsetOf(Checkout.PARENT.getModules());
  }

  @Test
  void parentHandsDownNoDependency() {
    assertThat(Checkout.PARENT.getDependencies())
        .as("<dependencies> of the parent would reach every user of every module: name them in "
            + "the modules that need them")
        .isEmpty();
  }

  private static boolean isOptional(Dependency dependency) {
    return dependency.isOptional() || "provided".equals(dependency.getScope());
  }

  /** The folders at the top and below examples. */
  private static Stream<Path> folders() throws IOException {
    try (Stream<Path> top = Files.list(Checkout.ROOT);
        Stream<Path> examples = Files.list(Checkout.ROOT.resolve("examples"))) {
      return Stream.concat(top, examples).filter(Files::isDirectory).toList().stream();
    }
  }
}
