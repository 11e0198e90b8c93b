package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** What decides can be read alone: it names nothing of the packages beside it, not even in a text. */
class DependencyTest {
  private static final Path CLASSES = Path.of("target/classes/dev/evalops/hook");
  private static final Pattern SUB_PACKAGE =
      Pattern.compile("dev[./]evalops[./]hook[./][a-z]\\w*[./]");

  private static List<String> namesOfSubPackages(Path folder) throws IOException {
    List<String> found = new ArrayList<>();
    int count = 0;
    try (DirectoryStream<Path> classes = Files.newDirectoryStream(folder, "*.class")) {
      for (Path file : classes) {
        count++;
        // The names in a class file are plain text.
        Matcher name = SUB_PACKAGE.matcher(Files.readString(file, StandardCharsets.ISO_8859_1));
        if (name.find()) {
          found.add(file.getFileName() + " names " + name.group());
        }
      }
    }
    assertThat(count).as("classes in %s", folder).isPositive();
    return found;
  }

  @Test
  void theCheckKnowsNothingOfTheInstallerOrTheService() throws Exception {
    assertThat(namesOfSubPackages(CLASSES)).isEmpty();
    // That the rule sees such names.
    assertThat(namesOfSubPackages(CLASSES.resolve("install"))).isNotEmpty();
    assertThat(namesOfSubPackages(CLASSES.resolve("service"))).isNotEmpty();
  }
}
