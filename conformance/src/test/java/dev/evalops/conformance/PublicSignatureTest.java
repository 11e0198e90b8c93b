package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.signature.SignatureReader;
import org.objectweb.asm.signature.SignatureVisitor;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldNode;
import org.objectweb.asm.tree.MethodNode;

/** Public signatures show the types of the JDK, ours, and those that the row of the module names. */
class PublicSignatureTest {
  static List<Module> published() {
    return Checkout.published();
  }

  @ParameterizedTest
  @MethodSource("published")
  void showsOnlyTheThirdPartyTypesOfItsRow(Module module) {
    ModuleTable.Row row = ModuleTable.of(module.folder());
    PublicApi api = PublicApi.of(module.classes());

    List<String> broken = new ArrayList<>();
    for (ClassNode type : api.types()) {
      signatures(api.withHiddenSupertypes(type))
          .forEach((member, shown) -> shown.stream()
              .filter(name -> !name.startsWith("dev.evalops.")
                  && !isOfTheJdk(name)
                  && !isNamed(row, type, name))
              .forEach(name -> broken.add(className(type.name) + "." + member + " shows " + name)));
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

  /** Member to the types in its signature; what comes from a hidden supertype of the same module counts too. */
  private static Map<String, Set<String>> signatures(List<ClassNode> types) {
    Map<String, Set<String>> shown = new TreeMap<>();
    for (ClassNode type : types.reversed()) {
      Set<String> supertypes = new TreeSet<>(type.interfaces);
      Stream.ofNullable(type.superName).forEach(supertypes::add);
      shown.put("<type>", type.signature == null ? names(supertypes) : namesIn(type.signature));
      for (FieldNode field : type.fields) {
        if (PublicApi.isVisible(field)) {
          // As a method without parameters, so that one reader reads all.
          shown.put(
              field.name, namesIn("()" + (field.signature == null ? field.desc : field.signature)));
        }
      }
      for (MethodNode method : type.methods) {
        if (PublicApi.isVisible(method)) {
          Set<String> names = namesIn(method.signature == null ? method.desc : method.signature);
          names.addAll(names(method.exceptions));
          shown.put(method.name + method.desc, names);
        }
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
