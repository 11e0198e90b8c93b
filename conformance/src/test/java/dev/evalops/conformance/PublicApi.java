package dev.evalops.conformance;

import dev.evalops.conformance.Checkout.Module;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;
import org.objectweb.asm.TypeReference;
import org.objectweb.asm.tree.AnnotationNode;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldNode;
import org.objectweb.asm.tree.InnerClassNode;
import org.objectweb.asm.tree.MethodNode;
import org.objectweb.asm.tree.RecordComponentNode;
import org.objectweb.asm.tree.TypeAnnotationNode;

/**
 * What users of a module can name, as text that a diff shows well: one line for each type and member, sorted, with
 * generics, nullness and thrown exceptions; generated types by their name. Left out is what the language gives by
 * itself: the members of every record and enum, and overridden methods of Object.
 */
final class PublicApi {
  private static final int VISIBLE = Opcodes.ACC_PUBLIC | Opcodes.ACC_PROTECTED;
  private static final Set<String> OF_OBJECT =
      Set.of("equals(Ljava/lang/Object;)Z", "hashCode()I", "toString()Ljava/lang/String;");

  private static final Set<String> META = Set.of(
      "Ljava/lang/annotation/Target;",
      "Ljava/lang/annotation/Retention;",
      "Ljava/lang/annotation/Inherited;",
      "Ljava/lang/annotation/Repeatable;");

  private final Map<String, ClassNode> classes;

  private PublicApi(List<ClassNode> classes) {
    this.classes =
        classes.stream().collect(Collectors.toMap(type -> type.name, Function.identity()));
  }

  static PublicApi of(List<ClassNode> classes) {
    return new PublicApi(classes);
  }

  /** The whole record of the module, as its api.txt has it. */
  static String recordOf(Module module) {
    return "# The public API of " + module + ". \"make api\" writes this file.\n"
        + of(module.classes()).text();
  }

  /** The types that users can name. */
  List<ClassNode> types() {
    return classes.values().stream().filter(this::isVisible).toList();
  }

  /** The type with the hidden supertypes of the same module, whose members it hands on. */
  List<ClassNode> withHiddenSupertypes(ClassNode type) {
    List<ClassNode> all = new ArrayList<>(List.of(type));
    Stream.concat(Stream.ofNullable(type.superName), type.interfaces.stream())
        .map(classes::get)
        .filter(supertype -> supertype != null && !isVisible(supertype))
        .forEach(supertype -> all.addAll(withHiddenSupertypes(supertype)));
    return all;
  }

  static boolean isVisible(FieldNode field) {
    return (field.access & VISIBLE) != 0 && (field.access & Opcodes.ACC_SYNTHETIC) == 0;
  }

  static boolean isVisible(MethodNode method) {
    return (method.access & VISIBLE) != 0 && (method.access & Opcodes.ACC_SYNTHETIC) == 0;
  }

  /** A nested type has its true access in the list of inner classes. */
  private boolean isVisible(ClassNode type) {
    InnerClassNode inner = innerOf(type);
    if (inner == null) {
      return (type.access & Opcodes.ACC_PUBLIC) != 0;
    }
    return inner.outerName != null
        && (inner.access & VISIBLE) != 0
        && isVisible(classes.get(inner.outerName));
  }

  private static InnerClassNode innerOf(ClassNode type) {
    return type.innerClasses.stream()
        .filter(inner -> inner.name.equals(type.name))
        .findFirst()
        .orElse(null);
  }

  String text() {
    Map<String, Map<String, ClassNode>> packages = new TreeMap<>();
    types()
        .forEach(type -> packages
            .computeIfAbsent(packageOf(type.name), name -> new TreeMap<>())
            .put(type.name, type));
    StringBuilder text = new StringBuilder();
    packages.forEach((name, types) -> {
      text.append("\npackage ").append(name.replace('/', '.')).append('\n');
      types.values().stream()
          .filter(PublicApi::isGenerated)
          .filter(type -> !type.name.contains("$") || !isGenerated(outer(type)))
          .forEach(type -> text.append("\ngenerated ").append(simpleName(type)).append('\n'));
      types.values().stream().filter(type -> !isGenerated(type)).forEach(type -> {
        text.append('\n').append(header(type)).append('\n');
        members(type).forEach(member -> text.append("  ").append(member).append('\n'));
      });
    });
    return text.toString();
  }

  /** What protoc writes: it is the vocabulary of the wire, and its members are protobuf's. */
  static boolean isGenerated(ClassNode type) {
    return type.superName.startsWith("com/google/protobuf/Generated")
        || type.interfaces.contains("com/google/protobuf/MessageOrBuilder")
        || type.interfaces.contains("com/google/protobuf/ProtocolMessageEnum");
  }

  private ClassNode outer(ClassNode type) {
    return classes.get(type.name.substring(0, type.name.lastIndexOf('$')));
  }

  private static String simpleName(ClassNode type) {
    return type.name.substring(type.name.lastIndexOf('/') + 1).replace('$', '.');
  }

  private static String packageOf(String type) {
    return type.substring(0, type.lastIndexOf('/'));
  }

  private String header(ClassNode type) {
    InnerClassNode inner = innerOf(type);
    int access = inner == null ? type.access : inner.access;
    Signature signature = new Signature(type, declared(type), nulls(type));
    String kind = kind(type);
    StringBuilder header = new StringBuilder(deprecated(type.access)).append(meta(type));
    header.append((access & Opcodes.ACC_PUBLIC) != 0 ? "public " : "protected ");
    if (inner != null && kind.equals("class") && (access & Opcodes.ACC_STATIC) == 0) {
      header.append("inner ");
    }
    if (kind.equals("class")) {
      header.append((access & Opcodes.ACC_ABSTRACT) != 0 ? "abstract " : "");
      header.append((access & Opcodes.ACC_FINAL) != 0 ? "final " : "");
    }
    boolean sealed = type.permittedSubclasses != null && !kind.equals("enum");
    header.append(sealed ? "sealed " : "").append(kind).append(' ');
    header.append(signature.name(type.name)).append(signature.typeParameters());
    if (kind.equals("record")) {
      header.append(type.recordComponents.stream()
          .map(component -> component(type, component))
          .collect(Collectors.joining(", ", "(", ")")));
    }
    String superclass = signature.next(path(TypeReference.CLASS_EXTENDS, -1));
    if (kind.equals("class") && !superclass.equals("Object")) {
      header.append(" extends ").append(superclass);
    }
    List<String> interfaces = new ArrayList<>();
    for (int i = 0; i < type.interfaces.size(); i++) {
      interfaces.add(signature.next(path(TypeReference.CLASS_EXTENDS, i)));
    }
    if (!interfaces.isEmpty() && !kind.equals("@interface")) {
      header.append(kind.equals("interface") ? " extends " : " implements ");
      header.append(String.join(", ", interfaces));
    }
    if (sealed) {
      header.append(type.permittedSubclasses.stream()
          .map(signature::name)
          .collect(Collectors.joining(", ", " permits ", "")));
    }
    return header.toString();
  }

  private static String component(ClassNode type, RecordComponentNode component) {
    Signature signature = new Signature(
        type,
        component.signature == null ? component.descriptor : component.signature,
        nulls(component.visibleTypeAnnotations));
    return signature.next(path(TypeReference.FIELD, 0)) + " " + component.name;
  }

  private List<String> members(ClassNode type) {
    List<String> constants = new ArrayList<>();
    Set<String> members = new TreeSet<>();
    for (ClassNode owner : withHiddenSupertypes(type)) {
      for (FieldNode field : owner.fields) {
        if (isVisible(field) && (field.access & Opcodes.ACC_ENUM) != 0) {
          constants.add(deprecated(field.access) + field.name);
        } else if (isVisible(field) && isInherited(field.access, type)) {
          members.add(member(owner, field));
        }
      }
      for (MethodNode method : owner.methods) {
        boolean constructor = method.name.equals("<init>");
        if (isVisible(method)
            && isInherited(method.access, type)
            && !isGiven(type, method)
            && (!constructor || owner.name.equals(type.name))) {
          members.add(member(owner, method));
        }
      }
    }
    return Stream.concat(constants.stream(), members.stream()).toList();
  }

  /** Nobody extends a final class, so that what is protected there cannot be reached. */
  private static boolean isInherited(int access, ClassNode type) {
    return (access & Opcodes.ACC_PUBLIC) != 0 || (type.access & Opcodes.ACC_FINAL) == 0;
  }

  private static boolean isGiven(ClassNode type, MethodNode method) {
    String signature = method.name + method.desc;
    return switch (kind(type)) {
      case "record" ->
        OF_OBJECT.contains(signature)
            || signature.equals("<init>" + canonical(type))
            || type.recordComponents.stream()
                .anyMatch(one -> signature.equals(one.name + "()" + one.descriptor));
      case "enum" ->
        signature.equals("values()[L" + type.name + ";")
            || signature.equals("valueOf(Ljava/lang/String;)L" + type.name + ";");
      default -> OF_OBJECT.contains(signature) && (method.access & Opcodes.ACC_ABSTRACT) == 0;
    };
  }

  private static String canonical(ClassNode type) {
    return type.recordComponents.stream()
        .map(component -> component.descriptor)
        .collect(Collectors.joining("", "(", ")V"));
  }

  private static String member(ClassNode owner, FieldNode field) {
    String generic = field.signature == null ? field.desc : field.signature;
    Signature signature = new Signature(owner, generic, nulls(field.visibleTypeAnnotations));
    String type = signature.next(path(TypeReference.FIELD, 0));
    String value = field.value == null ? "" : " = " + literal(field.value);
    return modifiers(owner, field.access) + type + " " + field.name + value;
  }

  private static String member(ClassNode owner, MethodNode method) {
    String generic = method.signature == null ? method.desc : method.signature;
    Signature signature = new Signature(owner, generic, nulls(method.visibleTypeAnnotations));
    String typeParameters = signature.typeParameters();
    List<String> parameters = new ArrayList<>();
    signature.expect('(');
    for (int i = 0; !signature.at(')'); i++) {
      parameters.add(signature.next(path(TypeReference.METHOD_FORMAL_PARAMETER, i)));
    }
    signature.expect(')');
    if ((method.access & Opcodes.ACC_VARARGS) != 0) {
      String last = parameters.removeLast();
      parameters.add(last.substring(0, last.length() - 2) + "...");
    }
    String result = signature.next(path(TypeReference.METHOD_RETURN, 0));
    List<String> thrown = new ArrayList<>();
    while (signature.at('^')) {
      signature.expect('^');
      thrown.add(signature.next(""));
    }
    if (thrown.isEmpty()) {
      method.exceptions.forEach(exception -> thrown.add(signature.name(exception)));
    }
    StringBuilder line = new StringBuilder(modifiers(owner, method.access));
    line.append(typeParameters).append(typeParameters.isEmpty() ? "" : " ");
    if (method.name.equals("<init>")) {
      String name = signature.name(owner.name);
      line.append(name.substring(name.lastIndexOf('.') + 1));
    } else {
      line.append(result).append(' ').append(method.name);
    }
    line.append('(').append(String.join(", ", parameters)).append(')');
    if (!thrown.isEmpty()) {
      line.append(" throws ").append(String.join(", ", new TreeSet<>(thrown)));
    }
    if (method.annotationDefault != null) {
      line.append(" default ").append(literal(method.annotationDefault));
    }
    return line.toString();
  }

  private static String modifiers(ClassNode owner, int access) {
    boolean ofInterface = (owner.access & Opcodes.ACC_INTERFACE) != 0;
    String modifiers = deprecated(access)
        + ((access & Opcodes.ACC_PUBLIC) != 0 ? "public " : "protected ")
        + ((access & Opcodes.ACC_STATIC) != 0 ? "static " : "")
        + ((access & Opcodes.ACC_ABSTRACT) != 0 && !ofInterface ? "abstract " : "")
        + ((access & Opcodes.ACC_FINAL) != 0 ? "final " : "");
    boolean implemented =
        ofInterface && (access & (Opcodes.ACC_ABSTRACT | Opcodes.ACC_STATIC)) == 0;
    return implemented ? modifiers + "default " : modifiers;
  }

  private static String deprecated(int access) {
    return (access & Opcodes.ACC_DEPRECATED) != 0 ? "@Deprecated " : "";
  }

  private static String kind(ClassNode type) {
    if ((type.access & Opcodes.ACC_ANNOTATION) != 0) {
      return "@interface";
    } else if ((type.access & Opcodes.ACC_INTERFACE) != 0) {
      return "interface";
    } else if ((type.access & Opcodes.ACC_ENUM) != 0) {
      return "enum";
    }
    return type.recordComponents == null ? "class" : "record";
  }

  private static String declared(ClassNode type) {
    return type.signature != null
        ? type.signature
        : Stream.concat(Stream.of(type.superName), type.interfaces.stream())
            .map(name -> "L" + name + ";")
            .collect(Collectors.joining());
  }

  private static String literal(Object value) {
    return switch (value) {
      case String text ->
        '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
      case Type type -> type.getClassName() + ".class";
      case Collection<?> list ->
        list.stream().map(PublicApi::literal).collect(Collectors.joining(", ", "{", "}"));
      case String[] constant -> constant[1];
      case AnnotationNode annotation ->
        "@" + Type.getType(annotation.desc).getClassName() + values(annotation);
      default -> value.toString();
    };
  }

  private static String values(AnnotationNode annotation) {
    List<String> values = new ArrayList<>();
    for (int i = 0; annotation.values != null && i < annotation.values.size(); i += 2) {
      values.add(annotation.values.get(i) + " = " + literal(annotation.values.get(i + 1)));
    }
    return values.isEmpty() ? "" : "(" + String.join(", ", values) + ")";
  }

  /** Where an annotation may stand, and who sees it. */
  private static String meta(ClassNode type) {
    return Stream.ofNullable(type.visibleAnnotations)
        .flatMap(List::stream)
        .filter(annotation -> META.contains(annotation.desc))
        .map(annotation -> {
          String name = Type.getType(annotation.desc).getClassName();
          return "@" + name.substring(name.lastIndexOf('.') + 1) + values(annotation) + " ";
        })
        .sorted()
        .collect(Collectors.joining());
  }

  private static Set<String> nulls(ClassNode type) {
    return nulls(type.visibleTypeAnnotations);
  }

  /** Where @Nullable stands, each as {@link #path} with the way into the type behind it. */
  private static Set<String> nulls(List<TypeAnnotationNode> annotations) {
    Set<String> places = new TreeSet<>();
    for (TypeAnnotationNode annotation :
        annotations == null ? List.<TypeAnnotationNode>of() : annotations) {
      if (annotation.desc.equals("Lorg/jspecify/annotations/Nullable;")) {
        TypeReference reference = new TypeReference(annotation.typeRef);
        int index = switch (reference.getSort()) {
          case TypeReference.METHOD_FORMAL_PARAMETER -> reference.getFormalParameterIndex();
          case TypeReference.CLASS_EXTENDS -> reference.getSuperTypeIndex();
          case TypeReference.CLASS_TYPE_PARAMETER_BOUND,
              TypeReference.METHOD_TYPE_PARAMETER_BOUND -> reference.getTypeParameterIndex();
          default -> 0;
        };
        places.add(path(reference.getSort(), index)
            // Steps from an outer type to an inner one are not in a signature.
            + (annotation.typePath == null ? "" : annotation.typePath.toString().replace(".", "")));
      }
    }
    return places;
  }

  private static String path(int sort, int index) {
    return switch (sort) {
      // One bound is like another.
      case TypeReference.CLASS_TYPE_PARAMETER_BOUND, TypeReference.METHOD_TYPE_PARAMETER_BOUND ->
        "bound " + index + ": ";
      default -> sort + " " + index + ": ";
    };
  }

  /** Reads a signature of the class file format from left to right and writes it as Java has it. */
  private static final class Signature {
    private static final Map<Character, String> PRIMITIVES = Map.of(
        'B', "byte", 'C', "char", 'D', "double", 'F', "float", 'I', "int", 'J', "long", 'S',
        "short", 'Z', "boolean", 'V', "void");

    private final ClassNode owner;
    private final String text;
    private final Set<String> nulls;
    private int position;

    Signature(ClassNode owner, String text, Set<String> nulls) {
      this.owner = owner;
      this.text = text;
      this.nulls = nulls;
    }

    boolean at(char next) {
      return position < text.length() && text.charAt(position) == next;
    }

    void expect(char next) {
      if (!at(next)) {
        throw new IllegalStateException(
            "no " + next + " at " + position + " of " + text + " in " + owner.name);
      }
      position++;
    }

    /** Without java.lang and the package of the module, which a reader knows. */
    String name(String internal) {
      String ownPackage = packageOf(owner.name) + "/";
      String module = owner.name.startsWith("dev/evalops/runtime/")
          ? owner.name.substring(0, owner.name.indexOf('/', "dev/evalops/runtime/".length()) + 1)
          : ownPackage;
      String shorter = internal;
      for (String known : List.of("java/lang/", ownPackage, module)) {
        if (internal.startsWith(known) && internal.indexOf('/', known.length()) < 0) {
          shorter = internal.substring(known.length());
        }
      }
      return shorter.replace('/', '.').replace('$', '.');
    }

    String typeParameters() {
      if (!at('<')) {
        return "";
      }
      expect('<');
      List<String> parameters = new ArrayList<>();
      for (int i = 0; !at('>'); i++) {
        int colon = text.indexOf(':', position);
        String name = text.substring(position, colon);
        position = colon;
        List<String> bounds = new ArrayList<>();
        while (at(':')) {
          expect(':');
          if (!at(':')) {
            bounds.add(next(path(TypeReference.CLASS_TYPE_PARAMETER_BOUND, i)));
          }
        }
        bounds.remove("Object");
        parameters.add(bounds.isEmpty() ? name : name + " extends " + String.join(" & ", bounds));
      }
      expect('>');
      return "<" + String.join(", ", parameters) + ">";
    }

    String next(String path) {
      char first = text.charAt(position++);
      String mark = nulls.contains(path) ? "@Nullable " : "";
      if (PRIMITIVES.containsKey(first)) {
        return PRIMITIVES.get(first);
      }
      return switch (first) {
        case '[' -> {
          String element = next(path + "[");
          yield element + (mark.isEmpty() ? "" : " @Nullable ") + "[]";
        }
        case 'T' -> {
          int end = text.indexOf(';', position);
          String name = text.substring(position, end);
          position = end + 1;
          yield mark + name;
        }
        case 'L' -> mark + classType(path);
        default -> throw new IllegalStateException("no type at " + position + " of " + text);
      };
    }

    private String classType(String path) {
      StringBuilder type = new StringBuilder();
      int start = position;
      while (true) {
        char next = text.charAt(position);
        if (next == '<' || next == ';' || next == '.') {
          String name = text.substring(start, position);
          type.append(type.isEmpty() ? name(name) : name);
        }
        switch (next) {
          case '<' -> {
            type.append(arguments(path));
            start = position;
          }
          case '.' -> {
            type.append('.');
            start = ++position;
          }
          case ';' -> {
            position++;
            return type.toString();
          }
          default -> position++;
        }
      }
    }

    private String arguments(String path) {
      expect('<');
      List<String> arguments = new ArrayList<>();
      for (int i = 0; !at('>'); i++) {
        String inside = path + i + ";";
        if (at('*')) {
          expect('*');
          arguments.add("?");
        } else if (at('+')) {
          expect('+');
          arguments.add("? extends " + next(inside + "*"));
        } else if (at('-')) {
          expect('-');
          arguments.add("? super " + next(inside + "*"));
        } else {
          arguments.add(next(inside));
        }
      }
      expect('>');
      return "<" + String.join(", ", arguments) + ">";
    }
  }
}
