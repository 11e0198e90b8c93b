package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.signature.SignatureReader;
import org.objectweb.asm.signature.SignatureVisitor;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldNode;
import org.objectweb.asm.tree.InnerClassNode;
import org.objectweb.asm.tree.MethodNode;

/** Public signatures show the types of the JDK, ours, and those that the row of the module names. */
class PublicSignatureTest {
  private static final int VISIBLE = Opcodes.ACC_PUBLIC | Opcodes.ACC_PROTECTED;

  static List<Module> published() {
    return Checkout.published();
  }

  @ParameterizedTest
  @MethodSource("published")
  void showsOnlyTheThirdPartyTypesOfItsRow(Module module) {
    ModuleTable.Row row = ModuleTable.of(module.folder());
    Map<String, ClassNode> classes =
        module.classes().stream().collect(Collectors.toMap(type -> type.name, Function.identity()));

    List<String> broken = new ArrayList<>();
    for (ClassNode type : classes.values()) {
      if (isVisible(type, classes)) {
        signatures(type, classes)
            .forEach((member, shown) -> shown.stream()
                .filter(name -> !name.startsWith("dev.evalops.")
                    && !isOfTheJdk(name)
                    && !isNamed(row, type, name))
                .forEach(
                    name -> broken.add(className(type.name) + "." + member + " shows " + name)));
      }
    }
    assertThat(broken)
        .as(
            "%s: take a JDK type, or decide that users see this one and name it in the row in ModuleTable",
            module)
        .isEmpty();
  }

  private static boolean isNamed(ModuleTable.Row row, ClassNode owner, String shown) {
    Stream<String> adapters = row.adapters().entrySet().stream()
        .filter(adapter ->
            className(owner.name).startsWith(row.packageName() + "." + adapter.getKey() + "."))
        .map(Map.Entry::getValue);
    return Stream.concat(row.shown().stream(), adapters)
        .anyMatch(named -> named.endsWith(".") ? shown.startsWith(named) : shown.equals(named));
  }

  private static boolean isOfTheJdk(String name) {
    try {
      ClassLoader.getPlatformClassLoader().loadClass(name);
      return true;
    } catch (ClassNotFoundException e) {
      return false;
    }
  }

  /** Whether users can name the type: a nested one has its true access in the list of inner classes. */
  private static boolean isVisible(ClassNode type, Map<String, ClassNode> classes) {
    for (InnerClassNode inner : type.innerClasses) {
      if (inner.name.equals(type.name)) {
        return inner.outerName != null
            && (inner.access & VISIBLE) != 0
            && isVisible(classes.get(inner.outerName), classes);
      }
    }
    return (type.access & Opcodes.ACC_PUBLIC) != 0;
  }

  /** Member to the types in its signature; what comes from a hidden supertype of the same module counts too. */
  private static Map<String, Set<String>> signatures(
      ClassNode type, Map<String, ClassNode> classes) {
    Map<String, Set<String>> shown = new TreeMap<>();
    Set<String> supertypes = new TreeSet<>(type.interfaces);
    Stream.ofNullable(type.superName).forEach(supertypes::add);
    supertypes.stream()
        .map(classes::get)
        .filter(Objects::nonNull)
        .filter(supertype -> !isVisible(supertype, classes))
        .forEach(supertype -> shown.putAll(signatures(supertype, classes)));
    shown.put("<type>", type.signature == null ? names(supertypes) : namesIn(type.signature));
    for (FieldNode field : type.fields) {
      if ((field.access & VISIBLE) != 0) {
        // As a method without parameters, so that one reader reads all.
        shown.put(
            field.name, namesIn("()" + (field.signature == null ? field.desc : field.signature)));
      }
    }
    for (MethodNode method : type.methods) {
      if ((method.access & VISIBLE) != 0 && (method.access & Opcodes.ACC_SYNTHETIC) == 0) {
        Set<String> names = namesIn(method.signature == null ? method.desc : method.signature);
        names.addAll(names(method.exceptions));
        shown.put(method.name + method.desc, names);
      }
    }
    return shown;
  }

  private static Set<String> namesIn(String signature) {
    Set<String> names = new TreeSet<>();
    SignatureVisitor visitor = new SignatureVisitor(Opcodes.ASM9) {
      @Override
      public void visitClassType(String name) {
        names.add(className(name));
      }
    };
    new SignatureReader(signature).accept(visitor);
    return names;
  }

  private static Set<String> names(Collection<String> internal) {
    return internal.stream()
        .map(PublicSignatureTest::className)
        .collect(Collectors.toCollection(TreeSet::new));
  }

  private static String className(String internal) {
    return internal.replace('/', '.');
  }
}
