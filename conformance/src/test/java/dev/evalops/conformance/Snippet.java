package dev.evalops.conformance;

import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;

/**
 * A block of Java in a README, made a class that can be compiled: declarations become its members, statements the body
 * of a method, and what a reader is expected to have around them comes from a preamble, a file of imports and members.
 * The sign … may stand for a body that is left out ({ … }), for statements that are, for the expression of a lambda,
 * and at the beginning of a line for a builder (… .handle).
 */
final class Snippet {
  private static final Pattern DECLARATION = Pattern.compile(
      "(public|private|protected|static|abstract|final class|class|record|interface|enum|sealed|void) .*|@.*"
          + "|(?!(new|return|throw|else) )[\\w.]+(<[\\w<>, .?]*>)? \\w+\\([^()]*\\)( throws [\\w, .]+)? \\{.*");

  /** As Markdown has it: with backticks or tildes, and more after the language. */
  private static final Pattern FENCE =
      Pattern.compile("\\s*(```+|~~~+)\\s*java\\b.*", Pattern.CASE_INSENSITIVE);

  private static final JavaCompiler COMPILER = ToolProvider.getSystemJavaCompiler();
  /** One for all, because it keeps what it has read of the class path. */
  private static final JavaFileManager FILES =
      COMPILER.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8);

  private final List<Source> sources = new ArrayList<>();
  private final List<String> problems = new ArrayList<>();

  private Snippet() {}

  static boolean isIn(List<String> lines) {
    return lines.stream().anyMatch(FENCE.asMatchPredicate());
  }

  /**
   * The blocks of one README, each with the preambles around it; those with a package are files, and one snippet
   * together.
   */
  static List<Snippet> of(String readme, List<String> lines, List<Path> preambles)
      throws IOException {
    List<Snippet> snippets = new ArrayList<>();
    Snippet files = new Snippet();
    for (int i = 0; i < lines.size(); i++) {
      Matcher fence = FENCE.matcher(lines.get(i));
      if (fence.matches()) {
        int start = i + 1;
        while (i + 1 < lines.size() && !closes(lines.get(i + 1).strip(), fence.group(1))) {
          i++;
        }
        List<Line> block = new ArrayList<>();
        for (int line = start; line <= i; line++) {
          block.add(new Line(readme + ":" + (line + 1), lines.get(line)));
        }
        if (!block.isEmpty() && block.getFirst().text().startsWith("package ")) {
          files.sources.add(Source.file(block));
        } else {
          snippets.add(write(block, preambles));
        }
      }
    }
    if (!files.sources.isEmpty()) {
      snippets.add(files);
    }
    return snippets;
  }

  /** As many signs as opened it, or more. */
  private static boolean closes(String line, String fence) {
    return line.startsWith(fence) && line.replace(fence.substring(0, 1), "").isEmpty();
  }

  /** What is wrong, each with file and line. */
  List<String> problems() {
    List<String> all = new ArrayList<>(problems);
    DiagnosticCollector<JavaFileObject> diagnostics = new DiagnosticCollector<>();
    List<String> options = List.of(
        "--release",
        "21",
        "-proc:none",
        "-implicit:none",
        "-classpath",
        classPath(),
        "-d",
        "target/snippets");
    new File("target/snippets").mkdirs();
    COMPILER.getTask(null, FILES, diagnostics, options, null, sources).call();
    diagnostics.getDiagnostics().stream()
        .filter(diagnostic -> diagnostic.getKind() == Diagnostic.Kind.ERROR)
        .map(diagnostic -> origin(diagnostic) + ": " + diagnostic.getMessage(Locale.ROOT))
        .forEach(all::add);
    return all;
  }

  private static String origin(Diagnostic<? extends JavaFileObject> diagnostic) {
    int line = (int) diagnostic.getLineNumber() - 1;
    return diagnostic.getSource() instanceof Source source
            && line >= 0
            && line < source.lines.size()
        ? source.lines.get(line).origin()
        : "?";
  }

  /** The modules as they were just built, with all that the tests have. */
  private static String classPath() {
    return Stream.concat(
            Checkout.published().stream()
                .map(module -> module.path("target/classes").toString()),
            Stream.of(System.getProperty("java.class.path")))
        .collect(Collectors.joining(File.pathSeparator));
  }

  private static Snippet write(List<Line> block, List<Path> preambles) throws IOException {
    Snippet snippet = new Snippet();
    List<Line> text = new ArrayList<>();
    List<Line> around = new ArrayList<>();
    String superclass = "Object";
    for (Path preamble : preambles) {
      // Each in a class over the snippet's, so that a later one can hide names of an earlier one.
      String name = "Around" + preambles.indexOf(preamble);
      around.add(new Line("?", "class " + name + " extends " + superclass + " {"));
      superclass = name;
      List<String> lines = Files.readAllLines(preamble);
      for (int i = 0; i < lines.size(); i++) {
        Line line = new Line(preamble + ":" + (i + 1), lines.get(i));
        if (line.text().startsWith("import ")) {
          text.add(line);
        } else {
          around.add(line);
        }
      }
      around.add(new Line("?", "}"));
    }
    List<Line> members = new ArrayList<>();
    List<Line> statements = new ArrayList<>();
    for (List<Line> part : snippet.parts(block)) {
      if (part.getFirst().text().startsWith("import ")) {
        text.addAll(part);
      } else if (DECLARATION.matcher(part.getFirst().text()).matches()) {
        members.addAll(part);
      } else {
        statements.addAll(part);
      }
    }
    text.addAll(around);
    text.add(new Line("?", "class Snippet extends " + superclass + " {"));
    text.addAll(members);
    text.add(new Line("?", "void snippet() throws Exception {"));
    text.addAll(statements);
    text.add(new Line("?", "}}"));
    snippet.sources.add(new Source("Snippet", text));
    return snippet;
  }

  /** The statements and declarations at the top, each of one or more lines, without comments. */
  private List<List<Line>> parts(List<Line> block) {
    List<List<Line>> parts = new ArrayList<>();
    List<Line> part = new ArrayList<>();
    int depth = 0;
    for (int i = 0; i < block.size(); i++) {
      Line line = new Line(block.get(i).origin(), code(block.get(i).text()));
      if (line.text().isBlank()) {
        continue;
      }
      boolean builder = part.isEmpty() && line.text().startsWith("… .");
      line = complete(line, part.isEmpty());
      if (part.isEmpty() && line.text().isBlank()) {
        continue;
      }
      part.add(line);
      depth += depth(line.text());
      if (depth == 0 && (builder || line.text().endsWith(";") || line.text().endsWith("}"))) {
        parts.add(part);
        part = new ArrayList<>();
      }
    }
    if (!part.isEmpty()) {
      problems.add(part.getFirst().origin() + ": does not end");
    }
    return parts;
  }

  private Line complete(Line line, boolean first) {
    String text = line.text();
    if (first && text.startsWith("… .")) {
      text = "builder" + text.substring(2) + (text.endsWith(";") ? "" : ";");
    }
    if (first && text.startsWith("throw ")) {
      // What follows is another example, not dead code.
      text = "if (true) " + text;
    }
    text = text.replace("{ … }", "{ throw new AssertionError(); }")
        .replace("-> …", "-> {}")
        .replaceAll("(?<=[{;}]) …(?= |$)", "")
        .replaceAll("^…$", "");
    if (text.contains("…")) {
      problems.add(line.origin() + ": … stands for a body, a statement, the expression of a lambda"
          + " or the builder before a dot, and nothing else");
    }
    return new Line(line.origin(), text);
  }

  private static String code(String line) {
    boolean quoted = false;
    for (int i = 0; i < line.length(); i++) {
      if (line.charAt(i) == '"' && line.charAt(Math.max(0, i - 1)) != '\\') {
        quoted = !quoted;
      } else if (!quoted && line.startsWith("//", i)) {
        return line.substring(0, i).stripTrailing();
      }
    }
    return line.stripTrailing();
  }

  private static int depth(String code) {
    String bare = code.replaceAll("\"(\\\\.|[^\"\\\\])*\"|'(\\\\.|[^'\\\\])'", "");
    int opened = (int) bare.chars().filter(letter -> "([{".indexOf(letter) >= 0).count();
    int closed = (int) bare.chars().filter(letter -> ")]}".indexOf(letter) >= 0).count();
    return opened - closed;
  }

  private record Line(String origin, String text) {}

  private static final class Source extends SimpleJavaFileObject {
    private static final Pattern TYPE =
        Pattern.compile("^(?:public |final )*(?:class|record|interface|enum) (\\w+)");

    private final List<Line> lines;

    Source(String name, List<Line> lines) {
      super(URI.create("string:///" + name + ".java"), JavaFileObject.Kind.SOURCE);
      this.lines = lines;
    }

    static Source file(List<Line> lines) {
      return lines.stream()
          .flatMap(line -> TYPE.matcher(line.text()).results())
          .findFirst()
          .map(type -> new Source(type.group(1), lines))
          .orElseThrow();
    }

    @Override
    public CharSequence getCharContent(boolean ignoreEncodingErrors) {
      return lines.stream().map(Line::text).collect(Collectors.joining("\n"));
    }
  }
}
