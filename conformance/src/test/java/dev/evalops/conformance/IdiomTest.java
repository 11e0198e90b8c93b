package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;
import org.objectweb.asm.TypeReference;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.MethodNode;

/** Every published module speaks one idiom: how builders end, what settings are called, what absent looks like. */
@ParameterizedClass
@MethodSource("published")
class IdiomTest {
  /** A value; what you call and close; what calls you and is closed; the routes for a server of one's own. */
  private static final Set<String> END_NAMES = Set.of("build", "open", "start", "handler");

  private static final String DURATION = "Ljava/time/Duration;";
  private static final String FILTER = "Lcom/sun/net/httpserver/Filter;";

  private static final Pattern SETTER =
      Pattern.compile("(?s)/\\*\\*(?<doc>(?:(?!\\*/).)*)\\*/\\s*(?:@\\w+(?:\\([^)]*\\))?\\s*)*"
          + "public \\w*Builder (?<name>\\w+)\\((?:(?<number>(?:Duration|int|long|double) \\w+)|[^()]*)\\)"
          + " \\{(?<body>.*?)\n    }\n");

  private static final Pattern RANGE =
      Pattern.compile("\\b(zero|or more|more than|at least|from an? |0|1 to )\\b");

  private final List<ClassNode> types;
  private final List<String> sources;

  IdiomTest(Module module) throws IOException {
    this.sources = module.sources();
    PublicApi api = PublicApi.of(module.classes());
    this.types = api.types().stream()
        .filter(type -> !PublicApi.isGenerated(type))
        .flatMap(type -> api.withHiddenSupertypes(type).stream())
        .distinct()
        .toList();
  }

  static List<Module> published() {
    return Checkout.published();
  }

  @Test
  void buildersEndInOneOfThreeWords() {
    assertThat(builderMethods(method -> !returnsABuilder(method) && !asks(method))
            .filter(method -> !END_NAMES.contains(method.name)))
        .as("builders end in build (a value), open (what you call) or start (what calls you)")
        .extracting(method -> method.name)
        .isEmpty();
  }

  @Test
  void limitsOfTimeAreTimeouts_agesFor_andPeriodsEvery() {
    assertThat(builderMethods(IdiomTest::returnsABuilder)
            .filter(method -> method.desc.startsWith("(" + DURATION + ")"))
            .filter(method -> !method.name.matches(".*(Timeout|For|Every|Wait|[dD]elay|Backoff)")))
        .as("names of settings of time")
        .extracting(method -> method.name)
        .isEmpty();
  }

  @Test
  void entryPointsHaveNoPublicConstructor() {
    List<String> broken = new ArrayList<>();
    for (ClassNode type : types) {
      boolean extended = (type.access & Opcodes.ACC_ABSTRACT) != 0;
      boolean given = type.superName.endsWith("Exception")
          || type.superName.equals("java/lang/Record")
          || isJUnitExtension(type);
      if (!given && !extended) {
        type.methods.stream()
            .filter(PublicApi::isVisible)
            .filter(method -> method.name.equals("<init>"))
            .forEach(method -> broken.add(type.name + method.desc));
      }
    }
    assertThat(broken)
        .as("public constructors: use a static factory of, open or start, or a builder")
        .isEmpty();
  }

  /** JUnit makes it. */
  private static boolean isJUnitExtension(ClassNode type) {
    return type.interfaces.stream()
        .anyMatch(name -> name.startsWith("org/junit/jupiter/api/extension/"));
  }

  @Test
  void absentIsOptionalInResults() {
    assertThat(types.stream()
            .flatMap(type -> type.methods.stream()
                .filter(PublicApi::isVisible)
                .filter(IdiomTest::returnsNull)
                .map(method -> type.name + "." + method.name)))
        .as("methods that return null: absent is Optional in results")
        .isEmpty();
  }

  private static boolean returnsNull(MethodNode method) {
    return method.visibleTypeAnnotations != null
        && method.visibleTypeAnnotations.stream()
            .anyMatch(annotation -> annotation.desc.endsWith("/Nullable;")
                && annotation.typePath == null
                && new TypeReference(annotation.typeRef).getSort() == TypeReference.METHOD_RETURN);
  }

  @Test
  void filtersComeFromFilterOrRequire() {
    assertThat(types.stream()
            .filter(type -> !type.name.endsWith("Filters"))
            .flatMap(type -> type.methods.stream()
                .filter(PublicApi::isVisible)
                .filter(method -> method.desc.endsWith(")" + FILTER))
                .filter(method -> !method.name.matches("filter|requests|require.*"))
                .map(method -> type.name + "." + method.name)))
        .as("methods that give a filter")
        .isEmpty();
  }

  @Test
  void settersCheckNothing_andSayTheirRange() {
    List<String> checking = new ArrayList<>();
    List<String> silent = new ArrayList<>();
    for (String source : sources) {
      for (Matcher setter = SETTER.matcher(source); setter.find(); ) {
        if (setter.group("body").contains("throw new ")) {
          checking.add(setter.group("name"));
        }
        if (setter.group("number") != null
            && !RANGE.matcher(setter.group("doc")).find()) {
          silent.add(setter.group("name"));
        }
      }
    }
    assertThat(checking)
        .as("setters that check more than null: all settings are checked in the last call")
        .isEmpty();
    assertThat(silent)
        .as("setters of a number or a time whose Javadoc does not say the range")
        .isEmpty();
  }

  @Test
  void fieldsAreConstants() {
    assertThat(types.stream()
            .flatMap(type -> type.fields.stream()
                .filter(PublicApi::isVisible)
                .filter(field -> (field.access & Opcodes.ACC_FINAL) == 0)
                .map(field -> type.name + "." + field.name)))
        .as("fields that change: there is no static state")
        .isEmpty();
  }

  private Stream<MethodNode> builderMethods(Predicate<MethodNode> which) {
    return types.stream()
        .filter(type -> type.name.endsWith("Builder"))
        .flatMap(type -> type.methods.stream())
        .filter(PublicApi::isVisible)
        .filter(method -> !method.name.equals("<init>"))
        .filter(which);
  }

  /** Such as isConfigured, which ends nothing. */
  private static boolean asks(MethodNode method) {
    return Type.getReturnType(method.desc).equals(Type.BOOLEAN_TYPE);
  }

  private static boolean returnsABuilder(MethodNode method) {
    return Type.getReturnType(method.desc).getClassName().endsWith("Builder");
  }
}
