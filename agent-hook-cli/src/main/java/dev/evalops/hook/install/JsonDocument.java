package dev.evalops.hook.install;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** JSON by the letter, with the place of each value in the text, so that it can be edited in place. */
final class JsonDocument {
  private static final int MAX_DEPTH = 200;

  private final String text;
  private int at;

  private JsonDocument(String text) {
    this.text = text;
  }

  /**
   * One value.
   *
   * @param start where its text begins
   * @param end where its text has ended
   * @param content a Map of Value, a List of Value, a String, a BigDecimal, a Boolean, or null
   */
  record Value(int start, int end, @Nullable Object content) {
    @Nullable
    Map<String, Value> members() {
      if (content instanceof Map<?, ?>) {
        @SuppressWarnings("unchecked") // as the content is described above
        Map<String, Value> members = (Map<String, Value>) content;
        return members;
      }
      return null;
    }

    @Nullable
    List<Value> elements() {
      if (content instanceof List<?>) {
        @SuppressWarnings("unchecked") // as the content is described above
        List<Value> elements = (List<Value>) content;
        return elements;
      }
      return null;
    }

    @Nullable
    Value member(String name) {
      Map<String, Value> members = members();
      return members == null ? null : members.get(name);
    }

    /** Without the places, for comparison. */
    @Nullable
    Object plain() {
      Map<String, Value> members = members();
      if (members != null) {
        Map<String, @Nullable Object> plain = new LinkedHashMap<>();
        members.forEach((name, value) -> plain.put(name, value.plain()));
        return plain;
      }
      List<Value> elements = elements();
      if (elements != null) {
        List<@Nullable Object> plain = new ArrayList<>();
        elements.forEach(value -> plain.add(value.plain()));
        return plain;
      }
      return content;
    }
  }

  static Value parse(String text) throws NotUnderstoodException {
    JsonDocument document = new JsonDocument(text);
    document.space();
    Value value = document.value(0);
    document.space();
    if (document.at != text.length()) {
      throw document.error("something follows the JSON value");
    }
    return value;
  }

  private Value value(int depth) throws NotUnderstoodException {
    if (depth > MAX_DEPTH) {
      throw error("it is nested too deep");
    }
    int start = at;
    Object content;
    switch (peek()) {
      case '{' -> content = object(depth);
      case '[' -> content = array(depth);
      case '"' -> content = string();
      case 't' -> content = literal("true", true);
      case 'f' -> content = literal("false", false);
      case 'n' -> content = literal("null", null);
      default -> content = number();
    }
    return new Value(start, at, content);
  }

  private Map<String, Value> object(int depth) throws NotUnderstoodException {
    Map<String, Value> members = new LinkedHashMap<>();
    at++;
    space();
    if (peek() == '}') {
      at++;
      return members;
    }
    while (true) {
      if (peek() != '"') {
        throw error("a name in quotes is expected");
      }
      String name = string();
      space();
      expect(':');
      space();
      if (members.put(name, value(depth + 1)) != null) {
        throw error("the name " + name + " is there twice");
      }
      space();
      if (peek() != ',') {
        expect('}');
        return members;
      }
      at++;
      space();
    }
  }

  private List<Value> array(int depth) throws NotUnderstoodException {
    List<Value> elements = new ArrayList<>();
    at++;
    space();
    if (peek() == ']') {
      at++;
      return elements;
    }
    while (true) {
      elements.add(value(depth + 1));
      space();
      if (peek() != ',') {
        expect(']');
        return elements;
      }
      at++;
      space();
    }
  }

  private String string() throws NotUnderstoodException {
    StringBuilder string = new StringBuilder();
    at++;
    while (true) {
      char c = peek();
      if (c < ' ') {
        throw error("a string does not end");
      }
      at++;
      if (c == '"') {
        return string.toString();
      }
      string.append(c == '\\' ? escaped() : c);
    }
  }

  private char escaped() throws NotUnderstoodException {
    char c = peek();
    at++;
    return switch (c) {
      case '"', '\\', '/' -> c;
      case 'b' -> '\b';
      case 'f' -> '\f';
      case 'n' -> '\n';
      case 'r' -> '\r';
      case 't' -> '\t';
      case 'u' -> unicode();
      default -> throw error("an unknown escape is in a string");
    };
  }

  private char unicode() throws NotUnderstoodException {
    int code = 0;
    for (int i = 0; i < 4; i++) {
      int digit = peek() < 128 ? Character.digit(peek(), 16) : -1;
      if (digit < 0) {
        throw error("an unknown escape is in a string");
      }
      code = code << 4 | digit;
      at++;
    }
    return (char) code;
  }

  private BigDecimal number() throws NotUnderstoodException {
    int start = at;
    while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
    String number = text.substring(start, at);
    if (!number.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")) {
      at = start;
      throw error("a value is expected");
    }
    return new BigDecimal(number);
  }

  private @Nullable Object literal(String word, @Nullable Object meaning)
      throws NotUnderstoodException {
    if (!text.startsWith(word, at)) {
      throw error("a value is expected");
    }
    at += word.length();
    return meaning;
  }

  private void space() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  /** The next character; NUL at the end, which is legal nowhere. */
  private char peek() {
    return at < text.length() ? text.charAt(at) : 0;
  }

  private void expect(char c) throws NotUnderstoodException {
    if (peek() != c) {
      throw error("'" + c + "' is expected");
    }
    at++;
  }

  private NotUnderstoodException error(String what) {
    int line = 1
        + (int) text.chars()
            .limit(Math.min(at, text.length()))
            .filter(c -> c == '\n')
            .count();
    return new NotUnderstoodException("it is not strict JSON: line " + line + ": " + what);
  }

  /** A string as JSON has it. */
  static String quote(String string) {
    StringBuilder json = new StringBuilder("\"");
    for (int i = 0; i < string.length(); i++) {
      char c = string.charAt(i);
      if (c == '"' || c == '\\') {
        json.append('\\').append(c);
      } else if (c < ' ') {
        json.append(String.format("\\u%04x", (int) c));
      } else {
        json.append(c);
      }
    }
    return json.append('"').toString();
  }
}
