package dev.evalops.conformance;

import com.sun.source.tree.BinaryTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.ConditionalExpressionTree;
import com.sun.source.tree.ExpressionTree;
import com.sun.source.tree.IdentifierTree;
import com.sun.source.tree.LiteralTree;
import com.sun.source.tree.MemberSelectTree;
import com.sun.source.tree.MethodInvocationTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.NewClassTree;
import com.sun.source.tree.ParenthesizedTree;
import com.sun.source.tree.Tree;
import com.sun.source.tree.VariableTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreeScanner;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NavigableSet;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/** What operators meet of the published modules, read from their main sources and SQL resources. */
final class Inventory {
  private static final Set<String> NOT_IN_A_SERVICE = Set.of("agent-hook-cli", "runtime-testutil");
  private static final Set<String> LEVELS =
      Set.of("log", "info", "warn", "error", "debug", "trace");
  private static final Pattern LEVEL = Pattern.compile(
      "\\bat(Error|Warn|Info|Debug|Trace)\\(\\)|\\bLevel\\.(ERROR|WARN\\w*|INFO|DEBUG|TRACE)");
  private static final Pattern LOGGER = Pattern.compile("\\b(log|LOG|logger)\\b");
  /** As Micrometer has them, or what follows a service's prefix. */
  private static final Pattern METER = Pattern.compile("\\.?[a-z]+(\\.[a-z]+)+|(_[a-z]+)+_total");

  /** What a key in Redis begins with. */
  private static final Pattern REDIS_KEY = Pattern.compile("[a-z]+:");

  private static final Pattern ENVIRONMENT = Pattern.compile("[A-Z]+(_[A-Z0-9]+)+");
  private static final Pattern PROPERTY = Pattern.compile("(sun\\.net|jdk)(\\.[a-z]\\w*)+");
  private static final Pattern TABLE =
      Pattern.compile("CREATE TABLE (?:IF NOT EXISTS )?(\\w+)", Pattern.CASE_INSENSITIVE);

  static final String UNKNOWN = "…";

  final NavigableSet<String> meters = new TreeSet<>();
  /** Each message with its levels; {@link #UNKNOWN} is among them where a level is computed. */
  final Map<String, Set<String>> logEvents = new TreeMap<>();

  final NavigableSet<String> threads = new TreeSet<>();
  final NavigableSet<String> redisKeys = new TreeSet<>();
  final NavigableSet<String> environment = new TreeSet<>();
  final NavigableSet<String> properties = new TreeSet<>();
  final NavigableSet<String> tables = new TreeSet<>();
  final NavigableSet<String> literals = new TreeSet<>();

  private Inventory() {}

  static Inventory ofPublishedModules() throws IOException {
    Inventory inventory = new Inventory();
    for (Checkout.Module module : Checkout.published()) {
      List<CompilationUnitTree> units = parse(module.path("src/main/java"));
      for (CompilationUnitTree unit : units) {
        inventory.add(unit, units);
        if (!NOT_IN_A_SERVICE.contains(module.folder())) {
          inventory.addThreads(unit, units);
        }
      }
      for (Path sql : files(module.path("src/main/resources"), ".sql")) {
        TABLE
            .matcher(Files.readString(sql))
            .results()
            .map(found -> found.group(1))
            .forEach(inventory.tables::add);
      }
    }
    return inventory;
  }

  private void add(CompilationUnitTree unit, List<CompilationUnitTree> module) {
    boolean meters = unit.getImports().toString().contains("io.micrometer");
    boolean redis = unit.getImports().toString().contains("io.lettuce");
    new TreeScanner<Void, MethodTree>() {
      @Override
      public Void visitMethod(MethodTree method, MethodTree outer) {
        return super.visitMethod(method, method);
      }

      @Override
      public Void visitLiteral(LiteralTree literal, MethodTree method) {
        if (literal.getValue() instanceof String text) {
          literals.add(text);
          addIf(meters && !text.endsWith(".sql"), METER, text, Inventory.this.meters);
          addIf(redis, REDIS_KEY, text, redisKeys);
          addIf(true, ENVIRONMENT, text, environment);
          addIf(true, PROPERTY, text, properties);
        }
        return super.visitLiteral(literal, method);
      }

      @Override
      public Void visitMethodInvocation(MethodInvocationTree call, MethodTree method) {
        String target = call.getMethodSelect().toString();
        if (target.equals("System.getProperty") || target.equals("System.setProperty")) {
          properties.addAll(texts(call.getArguments().getFirst(), method, module));
        } else if (target.equals("System.getenv") && !call.getArguments().isEmpty()) {
          environment.addAll(texts(call.getArguments().getFirst(), method, module));
        } else if (isLog(call)) {
          ExpressionTree first = call.getArguments().getFirst();
          boolean system = first.toString().matches("(Level\\.\\w+|level)");
          Set<String> levels = levels(call);
          texts(call.getArguments().get(system ? 1 : 0), method, module)
              .forEach(event ->
                  logEvents.computeIfAbsent(event, each -> new TreeSet<>()).addAll(levels));
        }
        return super.visitMethodInvocation(call, method);
      }
    }.scan(unit, null);
  }

  /** The names of threads; a number at the end is unknown. */
  private void addThreads(CompilationUnitTree unit, List<CompilationUnitTree> module) {
    new TreeScanner<Void, MethodTree>() {
      @Override
      public Void visitMethod(MethodTree method, MethodTree outer) {
        return super.visitMethod(method, method);
      }

      @Override
      public Void visitNewClass(NewClassTree created, MethodTree method) {
        if (created.getIdentifier().toString().equals("Thread")) {
          add(created.getArguments().getLast(), "", method);
        }
        return super.visitNewClass(created, method);
      }

      @Override
      public Void visitMethodInvocation(MethodInvocationTree call, MethodTree method) {
        if (call.getMethodSelect().toString().matches("(?s).*\\bThread\\s*\\.of.*\\.name")) {
          add(
              call.getArguments().getFirst(),
              call.getArguments().size() > 1 ? UNKNOWN : "",
              method);
        }
        return super.visitMethodInvocation(call, method);
      }

      private void add(ExpressionTree name, String end, MethodTree method) {
        texts(name, method, module)
            .forEach(text -> threads.add(text.replaceFirst("\\d+$", UNKNOWN) + end));
      }
    }.scan(unit, null);
  }

  private static void addIf(boolean wanted, Pattern pattern, String text, Set<String> to) {
    if (wanted && pattern.matcher(text).matches()) {
      to.add(text);
    }
  }

  private static boolean isLog(MethodInvocationTree call) {
    return call.getMethodSelect() instanceof MemberSelectTree select
        && LEVELS.contains(select.getIdentifier().toString())
        && !call.getArguments().isEmpty()
        && (LOGGER.matcher(select.getExpression().toString()).find()
            || (select.getIdentifier().contentEquals("log")
                && call.getArguments().getFirst().getKind() == Tree.Kind.STRING_LITERAL));
  }

  /** The levels that stand in the call itself: as the method's name, of the fluent API, or of System.Logger. */
  private static Set<String> levels(MethodInvocationTree call) {
    String name = ((MemberSelectTree) call.getMethodSelect()).getIdentifier().toString();
    if (!name.equals("log")) {
      return Set.of(name.toUpperCase(Locale.ROOT));
    }
    Matcher found =
        LEVEL.matcher(call.getMethodSelect() + " " + call.getArguments().getFirst());
    Set<String> levels = new TreeSet<>();
    while (found.find()) {
      levels.add((found.group(1) == null ? found.group(2) : found.group(1))
          .toUpperCase(Locale.ROOT)
          .replace("WARNING", "WARN"));
    }
    return levels.isEmpty() ? Set.of(UNKNOWN) : levels;
  }

  /**
   * Returns what an expression can be; a parameter is what the callers of its method give, anything else is unknown.
   */
  private static Set<String> texts(
      ExpressionTree expression, MethodTree method, List<CompilationUnitTree> module) {
    if (expression instanceof LiteralTree literal) {
      return Set.of(String.valueOf(literal.getValue()));
    }
    if (expression instanceof ParenthesizedTree inner) {
      return texts(inner.getExpression(), method, module);
    }
    if (expression instanceof ConditionalExpressionTree either) {
      Set<String> texts = new TreeSet<>(texts(either.getTrueExpression(), method, module));
      texts.addAll(texts(either.getFalseExpression(), method, module));
      return texts;
    }
    if (expression instanceof BinaryTree both && both.getKind() == Tree.Kind.PLUS) {
      return texts(both.getLeftOperand(), method, module).stream()
          .flatMap(left ->
              texts(both.getRightOperand(), method, module).stream().map(right -> left + right))
          .collect(Collectors.toSet());
    }
    return expression instanceof IdentifierTree name
        ? given(name.getName().toString(), method, module)
        : Set.of(UNKNOWN);
  }

  private static Set<String> given(
      String name, MethodTree method, List<CompilationUnitTree> module) {
    Set<String> texts = new TreeSet<>();
    List<String> parameters = method == null
        ? List.of()
        : method.getParameters().stream().map(each -> each.getName().toString()).toList();
    int index = parameters.indexOf(name);
    new TreeScanner<Void, MethodTree>() {
      @Override
      public Void visitMethod(MethodTree caller, MethodTree outer) {
        return super.visitMethod(caller, caller);
      }

      @Override
      public Void visitVariable(VariableTree constant, MethodTree in) {
        if (index < 0
            && constant.getName().contentEquals(name)
            && constant.getInitializer() instanceof LiteralTree literal) {
          texts.add(String.valueOf(literal.getValue()));
        }
        return super.visitVariable(constant, in);
      }

      @Override
      public Void visitMethodInvocation(MethodInvocationTree call, MethodTree caller) {
        String target = call.getMethodSelect().toString();
        if (index >= 0
            && target.substring(target.lastIndexOf('.') + 1).contentEquals(method.getName())
            && call.getArguments().size() == parameters.size()) {
          texts.addAll(texts(call.getArguments().get(index), caller, module));
        }
        return super.visitMethodInvocation(call, caller);
      }
    }.scan(module, null);
    return texts.isEmpty() ? Set.of(UNKNOWN) : texts;
  }

  private static List<CompilationUnitTree> parse(Path folder) throws IOException {
    var compiler = ToolProvider.getSystemJavaCompiler();
    try (StandardJavaFileManager manager =
        compiler.getStandardFileManager(null, Locale.ROOT, StandardCharsets.UTF_8)) {
      var files = manager.getJavaFileObjectsFromPaths(files(folder, ".java"));
      if (!files.iterator().hasNext()) {
        return List.of();
      }
      JavacTask task = (JavacTask) compiler.getTask(null, manager, null, List.of(), null, files);
      List<CompilationUnitTree> units = new ArrayList<>();
      task.parse().forEach(units::add);
      return units;
    }
  }

  private static List<Path> files(Path folder, String ending) throws IOException {
    if (!Files.exists(folder)) {
      return List.of();
    }
    try (Stream<Path> all = Files.walk(folder)) {
      return all.filter(file -> file.toString().endsWith(ending)).sorted().toList();
    }
  }
}
