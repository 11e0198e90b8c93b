package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Checkout.Module;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.objectweb.asm.tree.ClassNode;

/**
 * Modules that cannot share code trim by copies of one rule, that of Go's {@code unicode.IsSpace}: names, scopes and
 * messages are the same in Go and in Java.
 */
class WhiteSpaceTest {
  private static final String GO =
      "\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
          + "\u2028\u2029\u202f\u205f\u3000";

  @Test
  void isTheSameEverywhere() throws Exception {
    List<String> copies = new ArrayList<>();
    for (Module module : Checkout.published()) {
      for (ClassNode type : module.classes()) {
        if (type.methods.stream()
            .anyMatch(m -> m.name.equals("isSpace") && m.desc.equals("(C)Z"))) {
          copies.add(type.name);
          assertThat(spaces(module, type)).as(type.name).isEqualTo(GO);
        }
      }
    }
    assertThat(copies).hasSizeGreaterThan(3);
  }

  private static String spaces(Module module, ClassNode type) throws Exception {
    URL classes = module.path("target/classes/").toUri().toURL();
    try (URLClassLoader loader = new URLClassLoader(new URL[] {classes})) {
      Method rule =
          loader.loadClass(type.name.replace('/', '.')).getDeclaredMethod("isSpace", char.class);
      rule.setAccessible(true);
      StringBuilder spaces = new StringBuilder();
      for (int c = 0; c <= Character.MAX_VALUE; c++) {
        if ((boolean) rule.invoke(null, (char) c)) {
          spaces.append((char) c);
        }
      }
      return spaces.toString();
    }
  }
}
