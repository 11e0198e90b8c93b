package dev.evalops.hook.install;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * The statements of a TOML file with their places in the text, so that it can be edited in place. Values
 * are looked into only as far as their end has to be found; single strings and booleans are understood.
 */
final class TomlDocument {
  private static final Pattern BARE_KEY = Pattern.compile("[A-Za-z0-9_-]+");
  private static final Pattern SCALAR =
      Pattern.compile("true|false|[+-]?(inf|nan)|[+-]?[0-9][0-9A-Za-z_.:+-]*");

  private final String text;
  private final List<Statement> statements = new ArrayList<>();
  private int at;

  private TomlDocument(String text) {
    this.text = text;
  }

  /** What a statement is. */
  enum Kind {
    TABLE,
    ARRAY_OF_TABLES,
    KEY
  }

  /**
   * One statement.
   *
   * @param path of a table from the root, of a key from its table
   * @param start of the statement
   * @param end behind its last character; a comment on the same line is behind it
   * @param valueStart of a key's value
   */
  record Statement(Kind kind, List<String> path, int start, int end, int valueStart) {}

  static TomlDocument parse(String text) throws NotUnderstoodException {
    TomlDocument document = new TomlDocument(text);
    document.statements();
    document.checkOnce();
    return document;
  }

  List<Statement> all() {
    return statements;
  }

  String value(Statement key) {
    return text.substring(key.valueStart(), key.end());
  }

  /** The value of a key that is a string on one line. */
  @Nullable
  String string(Statement key) {
    String value = value(key);
    if (value.startsWith("\"\"\"") || value.startsWith("'''") || value.length() < 2) {
      return null;
    }
    TomlDocument string = new TomlDocument(value);
    try {
      return switch (value.charAt(0)) {
        case '\'' -> value.substring(1, value.length() - 1);
        case '"' -> string.basicString();
        default -> null;
      };
    } catch (NotUnderstoodException e) {
      return null;
    }
  }

  /** Where the line of a position ends: before its line break, or at the end of the text. */
  int endOfLine(int position) {
    int end = text.indexOf('\n', position);
    return end < 0 ? text.length() : end > 0 && text.charAt(end - 1) == '\r' ? end - 1 : end;
  }

  private void statements() throws NotUnderstoodException {
    while (true) {
      blank();
      if (at == text.length()) {
        return;
      }
      int start = at;
      if (text.startsWith("[[", at)) {
        at += 2;
        List<String> path = path();
        expect("]]");
        statements.add(new Statement(Kind.ARRAY_OF_TABLES, path, start, at, at));
      } else if (peek() == '[') {
        at++;
        List<String> path = path();
        expect("]");
        statements.add(new Statement(Kind.TABLE, path, start, at, at));
      } else {
        List<String> path = path();
        expect("=");
        space();
        int valueStart = at;
        value();
        statements.add(new Statement(Kind.KEY, path, start, at, valueStart));
      }
      space();
      comment();
      if (at < text.length() && peek() != '\n' && !text.startsWith("\r\n", at)) {
        throw error("something follows on the line");
      }
    }
  }

  /** A table or a key that is there twice is an error of its own, and would make ours ambiguous. */
  private void checkOnce() throws NotUnderstoodException {
    Set<String> seen = new HashSet<>();
    String table = "";
    int tables = 0;
    for (Statement statement : statements) {
      at = statement.start();
      switch (statement.kind()) {
        case ARRAY_OF_TABLES -> table = statement.path() + "#" + tables++;
        case TABLE -> {
          // A table below an element of an array may be there for each of them.
          boolean below = statements.stream()
              .anyMatch(other -> other.kind() == Kind.ARRAY_OF_TABLES
                  && other.path().size() < statement.path().size()
                  && statement.path().subList(0, other.path().size()).equals(other.path()));
          table = statement.path() + (below ? "#" + tables++ : "");
          if (!seen.add(table)) {
            throw error("the table " + String.join(".", statement.path()) + " is there twice");
          }
        }
        case KEY -> {
          if (!seen.add(table + "=" + statement.path())) {
            throw error("the key " + String.join(".", statement.path()) + " is there twice");
          }
        }
      }
    }
  }

  private List<String> path() throws NotUnderstoodException {
    List<String> path = new ArrayList<>();
    while (true) {
      space();
      switch (peek()) {
        case '"' -> path.add(basicString());
        case '\'' -> path.add(literalString());
        default -> {
          int start = at;
          while (at < text.length()
              && BARE_KEY.matcher(text.substring(at, at + 1)).matches()) {
            at++;
          }
          if (at == start) {
            throw error("a name is expected");
          }
          path.add(text.substring(start, at));
        }
      }
      space();
      if (peek() != '.') {
        return path;
      }
      at++;
    }
  }

  private void value() throws NotUnderstoodException {
    switch (peek()) {
      case '"' -> {
        if (text.startsWith("\"\"\"", at)) {
          multiline("\"\"\"", true);
        } else {
          basicString();
        }
      }
      case '\'' -> {
        if (text.startsWith("'''", at)) {
          multiline("'''", false);
        } else {
          literalString();
        }
      }
      case '[' -> {
        at++;
        blank();
        while (peek() != ']') {
          value();
          blank();
          if (peek() == ',') {
            at++;
            blank();
          } else if (peek() != ']') {
            throw error("an array does not end");
          }
        }
        at++;
      }
      case '{' -> {
        at++;
        blank();
        while (peek() != '}') {
          path();
          expect("=");
          space();
          value();
          blank();
          if (peek() == ',') {
            at++;
            blank();
          } else if (peek() != '}') {
            throw error("an inline table does not end");
          }
        }
        at++;
      }
      default -> scalar();
    }
  }

  private void scalar() throws NotUnderstoodException {
    int start = at;
    while (at < text.length() && ",]}#\r\n".indexOf(text.charAt(at)) < 0) {
      at++;
    }
    while (at > start && " \t".indexOf(text.charAt(at - 1)) >= 0) {
      at--;
    }
    String scalar = text.substring(start, at);
    // A date and a time of day may have one space between them.
    if (!SCALAR.matcher(scalar.replaceFirst("^([0-9-]{10}) (?=[0-9])", "$1T")).matches()) {
      throw error("a value is expected");
    }
  }

  private String basicString() throws NotUnderstoodException {
    StringBuilder string = new StringBuilder();
    at++;
    while (peek() != '"') {
      if (at == text.length() || peek() == '\n' || peek() == '\r') {
        throw error("a string does not end");
      }
      char c = peek();
      at++;
      if (c != '\\') {
        string.append(c);
        continue;
      }
      char escape = peek();
      at++;
      switch (escape) {
        case '"', '\\' -> string.append(escape);
        case 'b' -> string.append('\b');
        case 't' -> string.append('\t');
        case 'n' -> string.append('\n');
        case 'f' -> string.append('\f');
        case 'r' -> string.append('\r');
        case 'e' -> string.append('\u001b');
        case 'x' -> string.append(hex(2));
        case 'u' -> string.append(hex(4));
        case 'U' -> string.append(hex(8));
        default -> throw error("an unknown escape is in a string");
      }
    }
    at++;
    return string.toString();
  }

  private String hex(int digits) throws NotUnderstoodException {
    try {
      String hex = text.substring(at, at + digits);
      at += digits;
      return Character.toString(Integer.parseUnsignedInt(hex, 16));
    } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
      throw error("an unknown escape is in a string");
    }
  }

  private String literalString() throws NotUnderstoodException {
    int start = ++at;
    while (peek() != '\'') {
      if (at == text.length() || peek() == '\n') {
        throw error("a string does not end");
      }
      at++;
    }
    return text.substring(start, at++);
  }

  private void multiline(String quotes, boolean escapes) throws NotUnderstoodException {
    at += 3;
    while (!text.startsWith(quotes, at)) {
      if (at >= text.length()) {
        throw error("a string does not end");
      }
      at += escapes && peek() == '\\' ? 2 : 1;
    }
    at += 3;
    // One or two more quotes belong to the string.
    for (int i = 0; i < 2 && peek() == quotes.charAt(0); i++) {
      at++;
    }
  }

  private void expect(String token) throws NotUnderstoodException {
    space();
    if (!text.startsWith(token, at)) {
      throw error("'" + token + "' is expected");
    }
    at += token.length();
  }

  /** Space, line breaks and comments. */
  private void blank() throws NotUnderstoodException {
    int before;
    do {
      before = at;
      space();
      comment();
      if (text.startsWith("\r\n", at)) {
        at += 2;
      } else if (peek() == '\n') {
        at++;
      }
    } while (at > before);
  }

  private void comment() {
    if (peek() == '#') {
      at = endOfLine(at);
    }
  }

  private void space() {
    while (peek() == ' ' || peek() == '\t') {
      at++;
    }
  }

  /** The next character; NUL at the end, which is legal nowhere. */
  private char peek() {
    return at < text.length() ? text.charAt(at) : 0;
  }

  private NotUnderstoodException error(String what) {
    int line = 1
        + (int) text.chars()
            .limit(Math.min(at, text.length()))
            .filter(c -> c == '\n')
            .count();
    return new NotUnderstoodException(
        "it is not TOML that we understand: line " + line + ": " + what);
  }
}
