package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Versions are written in one place, the parent. */
class VersionsTest {
  private static final Pattern VERSION = Pattern.compile("<version>(.*?)</version>");
  private static final Pattern PROPERTY = Pattern.compile("<([\\w.-]+\\.version)>");

  static List<Module> modules() {
    return Checkout.modules();
  }

  @ParameterizedTest
  @MethodSource("modules")
  void modulePomsHoldNoVersion(Module module) throws IOException {
    Set<String> allowed = new TreeSet<>(Set.of("${project.version}"));
    Checkout.PARENT
        .getProperties()
        .stringPropertyNames()
        .forEach(name -> allowed.add("${" + name + "}"));
    String pom = Files.readString(module.path("pom.xml"));

    assertThat(VERSION.matcher(pom).results().map(match -> match.group(1)))
        .as(
            "%s/pom.xml: write the version in the parent (<dependencyManagement>, <pluginManagement> or a property)",
            module)
        .isSubsetOf(allowed);
    assertThat(PROPERTY.matcher(pom).results().map(MatchResult::group))
        .as("%s/pom.xml: write the property in the parent", module)
        .isEmpty();
  }
}
