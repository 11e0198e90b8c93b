package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** One width for all Java files, comments included, and plain words everywhere. */
class TextTest {
  private static final int WIDTH = 120;

  /** What was written once and is hard to understand, or hard to search for; CONTRIBUTING.md has the words to use. */
  private static final Pattern UNCLEAR = Pattern.compile(String.join(
      "|",
      "could not be looked after",
      "faster than they are taken",
      "as this service would make it",
      "can be read again",
      "looking at the certificate files",
      "stands there twice",
      "its id or subject is missing",
      "waiting cannot heal",
      "from 30 s to 30 s",
      "Starts to describe",
      "To choose the",
      "Whose it is\\.",
      "Says what has happened",
      "\\bKEPT_FOR_EACH_NANOS\\b|\\bLAST_WORDS_NANOS\\b|\\bvital\\b|\\bNOBODY\\b|\\buntold\\b",
      "\\b[Tt]he house\\b|\\bestate\\b|\\bfleet\\b",
      "\\b(MOST|LONGEST|LEAST|HIGHEST)_(?!PRECEDENCE)"));

  @Test
  void linesOfJavaAreAtMost120Wide() throws IOException {
    List<String> wide = new ArrayList<>();
    for (Path file : Checkout.files(".*\\.java")) {
      lines(file, wide, line -> line.codePointCount(0, line.length()) > WIDTH);
    }
    assertThat(wide).as("lines of more than %d columns", WIDTH).isEmpty();
  }

  /** The changelog has names that were given up, and this class the phrases. */
  @Test
  void wordsAreClear() throws IOException {
    List<String> unclear = new ArrayList<>();
    for (Path file : Checkout.files(
        "(?!CHANGELOG.md|.*/TextTest.java).*\\.(java|md|proto|sql|xml|ya?ml)|scripts/.*|Makefile")) {
      lines(file, unclear, line -> UNCLEAR.matcher(line).find());
    }
    assertThat(unclear).as("say it as CONTRIBUTING.md does, in \"Words\"").isEmpty();
  }

  private static void lines(Path file, List<String> found, Predicate<String> which)
      throws IOException {
    List<String> lines = Files.readAllLines(Checkout.ROOT.resolve(file));
    for (int i = 0; i < lines.size(); i++) {
      if (which.test(lines.get(i))) {
        found.add(file + ":" + (i + 1) + ": " + lines.get(i).strip());
      }
    }
  }
}
