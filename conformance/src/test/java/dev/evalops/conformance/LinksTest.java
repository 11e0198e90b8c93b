package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Links between documents lead somewhere. */
class LinksTest {
  private static final Pattern LINK =
      Pattern.compile("\\]\\((?!\\w+:)([^)#\\s]*)(?:#([^)\\s]*))?\\)");

  static List<Path> documents() throws IOException {
    return Checkout.documents();
  }

  @ParameterizedTest
  @MethodSource("documents")
  void everyRelativeLinkHasATarget(Path document) throws IOException {
    Path file = Checkout.ROOT.resolve(document);
    List<String> broken = new ArrayList<>();
    for (MatchResult link : LINK.matcher(Files.readString(file)).results().toList()) {
      Path target =
          link.group(1).isEmpty() ? file : file.resolveSibling(link.group(1)).normalize();
      boolean found = Files.exists(target);
      if (found && link.group(2) != null) {
        found = anchors(Files.isDirectory(target) ? target.resolve("README.md") : target)
            .contains(link.group(2));
      }
      if (!found) {
        broken.add(link.group());
      }
    }
    assertThat(broken).as("links of %s without a target", document).isEmpty();
  }

  /** As GitHub makes them of headings. */
  private static List<String> anchors(Path document) throws IOException {
    return Files.readAllLines(document).stream()
        .filter(line -> line.matches("#+ .*"))
        .map(line -> line.replaceFirst("#+ ", "").toLowerCase(Locale.ROOT))
        .map(heading -> heading.replaceAll("[^\\w -]", "").replace(' ', '-'))
        .toList();
  }
}
