package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import org.apache.maven.model.Dependency;
import org.apache.maven.model.Model;
import org.junit.jupiter.api.Test;

/** The BOM, as users get it. */
class BomTest {
  private static final Module BOM = Module.of("runtime-bom");
  private static final List<String> JARS = Checkout.published().stream()
      .map(Module::folder)
      .filter(folder -> folder.startsWith("runtime-"))
      .toList();

  @Test
  void listsEveryRuntimeJarAndNothingElse() {
    Model bom = BOM.flattened();
    assertThat(bom.getDependencyManagement().getDependencies())
        .as(
            "<dependencyManagement> of runtime-bom/pom.xml: each published runtime-* module of the reactor, once")
        .extracting(Dependency::getManagementKey)
        .containsExactlyInAnyOrderElementsOf(
            JARS.stream().map(jar -> "dev.evalops:" + jar + ":jar").toList());
    assertThat(bom.getDependencyManagement().getDependencies())
        .extracting(Dependency::getVersion)
        .containsOnly("${project.version}");
  }

  @Test
  void standsAlone() throws IOException {
    Model bom = BOM.flattened();
    assertThat(bom.getParent())
        .as("a parent would hand its own managed versions to every importer")
        .isNull();
    assertThat(bom.getDependencies()).isEmpty();
    assertThat(Files.readString(BOM.path(".flattened-pom.xml")).replace("${project.version}", ""))
        .as("properties that only the parent knows")
        .doesNotContain("${");
    assertThat(bom.getVersion()).doesNotContain("${");
  }

  @Test
  void theseTestsAreBuiltAfterEverythingPublished() {
    assertThat(Module.of("conformance").pom().getDependencies())
        .as("<dependencies> of conformance/pom.xml")
        .extracting(Dependency::getArtifactId)
        .contains("runtime-bom")
        .containsAll(Checkout.published().stream().map(Module::folder).toList());
  }
}
