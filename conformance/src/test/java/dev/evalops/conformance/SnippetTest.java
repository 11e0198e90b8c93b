package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What a README shows can be compiled. */
class SnippetTest {
  private static final Path PREAMBLES = Path.of("src/test/resources/snippets");

  static List<Path> readmes() throws IOException {
    List<Path> withJava = new ArrayList<>();
    for (Path readme : Checkout.documents()) {
      if (Snippet.isIn(Files.readAllLines(Checkout.ROOT.resolve(readme)))) {
        withJava.add(readme);
      }
    }
    return withJava;
  }

  @ParameterizedTest
  @MethodSource("readmes")
  void everySnippetCompiles(Path readme) throws IOException {
    String folder =
        readme.getParent() == null ? "README" : readme.getParent().getFileName().toString();
    List<Path> preambles = Stream.of("all", folder)
        .map(name -> PREAMBLES.resolve(name + ".txt"))
        .filter(Files::exists)
        .toList();
    List<String> problems = new ArrayList<>();
    for (Snippet snippet : Snippet.of(
        readme.toString(), Files.readAllLines(Checkout.ROOT.resolve(readme)), preambles)) {
      problems.addAll(snippet.problems());
    }
    assertThat(problems)
        .as(
            "%s: what it shows is to compile, with the names that conformance/%s declares around it",
            readme, PREAMBLES.resolve(folder + ".txt"))
        .isEmpty();
  }

  @Test
  void seesEveryFence() throws IOException {
    for (String fence : List.of("```java", "  ```java", "``` Java", "````java title", "~~~java")) {
      String end = fence.strip().replaceAll("\\s*[jJ].*", "");
      List<String> readme = List.of("text", fence, "int one = \"\";", end, "text");
      assertThat(Snippet.isIn(readme)).isTrue();
      assertThat(Snippet.of("README.md", readme, List.of()).getFirst().problems())
          .as(fence)
          .singleElement()
          .asString()
          .startsWith("README.md:3: ");
    }
    assertThat(Snippet.isIn(List.of("```javascript", "```", "a ```java"))).isFalse();
    assertThat(Snippet.of("README.md", List.of("```java", "int one;"), List.of()))
        .hasSize(1);
  }

  @Test
  void mixesDeclarationsAndStatements() throws IOException {
    assertThat(problems(
            "static final int LIMIT = 2;",
            "",
            "throw new IllegalStateException(\"a // b\");   // once",
            "throw new IllegalStateException();",
            "List<String> one(int a) throws Exception {",
            "  return List.of();",
            "}",
            "int two = one(",
            "    LIMIT).size();"))
        .isEmpty();
  }

  @Test
  void compilesFilesTogether() throws IOException {
    List<String> readme = List.of(
        "```java",
        "package one;",
        "public class One extends Two {}",
        "```",
        "```java",
        "package one;",
        "",
        "final class Two {}",
        "```");
    List<String> problems = new ArrayList<>();
    for (Snippet snippet : Snippet.of("README.md", readme, List.of())) {
      problems.addAll(snippet.problems());
    }
    assertThat(problems).singleElement().asString().startsWith("README.md:3: ").contains("final");
  }

  @Test
  void leavesOutWhatTheSignStandsFor() throws IOException {
    assertThat(problems(
            "if (true) { … }",
            "Runnable nothing = () -> …;",
            "try (var in = new java.io.StringReader(\"\")) { … in.read(); … }",
            "… .append(1)",
            "int three() { … }",
            "…"))
        .isEmpty();
  }

  @Test
  void saysWhereASnippetIsWrong() throws IOException {
    assertThat(problems("int one = 1;", "", "String two = one;"))
        .singleElement()
        .asString()
        .startsWith("README.md:4: ")
        .contains("String");
    assertThat(problems("String three = List.of(…);"))
        .first()
        .asString()
        .startsWith("README.md:2: … stands for");
    assertThat(problems("call(")).contains("README.md:2: does not end");
  }

  private static List<String> problems(String... lines) throws IOException {
    List<String> readme = new ArrayList<>(List.of("```java"));
    readme.addAll(List.of(lines));
    readme.add("```");
    Path preamble = Path.of("src/test/resources/snippets/SnippetTest.txt");
    List<String> problems = new ArrayList<>();
    for (Snippet snippet : Snippet.of("README.md", readme, List.of(preamble))) {
      problems.addAll(snippet.problems());
    }
    return problems;
  }
}
