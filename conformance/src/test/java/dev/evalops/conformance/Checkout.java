package dev.evalops.conformance;

import java.io.IOException;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.apache.maven.model.Dependency;
import org.apache.maven.model.Model;
import org.apache.maven.model.io.xpp3.MavenXpp3Reader;
import org.codehaus.plexus.util.xml.pull.XmlPullParserException;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.tree.ClassNode;

/** The checkout around this module: its poms, and what the build made of them before it came here. */
final class Checkout {
  static final Path ROOT = Path.of("").toAbsolutePath().getParent();
  static final Model PARENT = read(ROOT.resolve("pom.xml"));

  private Checkout() {}

  /** Every module of the reactor, in the order of the parent. */
  static List<Module> modules() {
    return PARENT.getModules().stream().map(Module::of).toList();
  }

  /** The modules whose jars go to users. */
  static List<Module> published() {
    return modules().stream()
        .filter(module -> !module.pom().getPackaging().equals("pom"))
        .filter(
            module -> !"true".equals(module.pom().getProperties().getProperty("maven.deploy.skip")))
        .toList();
  }

  /** Every Markdown file, as its path from the root. */
  static List<Path> documents() throws IOException {
    return files(".*\\.md");
  }

  /** Every file that was not built and whose path from the root matches, as that path. */
  static List<Path> files(String pattern) throws IOException {
    List<Path> found = new ArrayList<>();
    Files.walkFileTree(ROOT, new SimpleFileVisitor<>() {
      @Override
      public FileVisitResult preVisitDirectory(Path folder, BasicFileAttributes of) {
        return Set.of("target", ".git", "node_modules")
                .contains(folder.getFileName().toString())
            ? FileVisitResult.SKIP_SUBTREE
            : FileVisitResult.CONTINUE;
      }

      @Override
      public FileVisitResult visitFile(Path file, BasicFileAttributes of) {
        Path path = ROOT.relativize(file);
        if (path.toString().matches(pattern)) {
          found.add(path);
        }
        return FileVisitResult.CONTINUE;
      }
    });
    Collections.sort(found);
    return found;
  }

  static Model read(Path pom) {
    try (Reader reader = Files.newBufferedReader(pom)) {
      return new MavenXpp3Reader().read(reader);
    } catch (IOException | XmlPullParserException e) {
      throw new IllegalStateException("cannot read " + pom + "; build with: mvn verify", e);
    }
  }

  /** One folder with a pom; prints as its path from the root. */
  record Module(String folder, Model pom) {
    static Module of(String folder) {
      return new Module(folder, read(ROOT.resolve(folder).resolve("pom.xml")));
    }

    Path path(String more) {
      return ROOT.resolve(folder).resolve(more);
    }

    /** The pom that users get. */
    Model flattened() {
      return read(path(".flattened-pom.xml"));
    }

    Path jar() {
      return path("target/" + pom.getArtifactId() + "-" + flattened().getVersion() + ".jar");
    }

    /** The names of what users get on any platform, ours by folder and others as group:artifact. */
    List<String> dependencies(Predicate<Dependency> which) {
      return Stream.concat(Stream.of(pom), pom.getProfiles().stream())
          .flatMap(model -> model.getDependencies().stream())
          .filter(dependency -> !"test".equals(dependency.getScope()))
          .filter(which)
          .map(dependency -> dependency.getGroupId().equals("${project.groupId}")
                  || dependency.getGroupId().equals("dev.evalops")
              ? dependency.getArtifactId()
              : dependency.getGroupId() + ":" + dependency.getArtifactId())
          .toList();
    }

    /** The text of its Java files that are in its jar. */
    List<String> sources() throws IOException {
      Path folder = path("src/main/java");
      if (!Files.exists(folder)) {
        return List.of();
      }
      try (Stream<Path> files = Files.walk(folder)) {
        List<String> sources = new ArrayList<>();
        for (Path file :
            files.filter(file -> file.toString().endsWith(".java")).sorted().toList()) {
          sources.add(Files.readString(file));
        }
        return sources;
      }
    }

    /** The classes of its jar, package-info included. */
    List<ClassNode> classes() {
      try (Stream<Path> files = Files.walk(path("target/classes"))) {
        List<ClassNode> classes = new ArrayList<>();
        for (Path file :
            files.filter(file -> file.toString().endsWith(".class")).sorted().toList()) {
          ClassNode node = new ClassNode();
          new ClassReader(Files.readAllBytes(file))
              .accept(node, ClassReader.SKIP_CODE | ClassReader.SKIP_DEBUG);
          classes.add(node);
        }
        return classes;
      } catch (IOException e) {
        throw new UncheckedIOException("no classes of " + folder + "; build with: mvn verify", e);
      }
    }

    @Override
    public String toString() {
      return folder;
    }
  }
}
