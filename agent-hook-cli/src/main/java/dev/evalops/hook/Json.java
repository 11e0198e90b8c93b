package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Reads JSON (RFC 8259) so strictly that every other reader sees the same: well-formed UTF-8 without a byte order mark,
 * no key twice in an object, no half surrogate pairs, numbers within the range of a double, at most 200 levels, at most
 * 100 000 keys in an object and those around it, nothing after the end. It reads bytes, so that a part can be passed on
 * exactly as it was judged.
 *
 * <p>A library's reader was measured: its classes alone take a quarter of the time that one call may take.
 */
final class Json {
  /** The text is no JSON, or none that we accept; the message says where, and never quotes the text. */
  static final class MalformedException extends Exception {
    private static final long serialVersionUID = 1L;

    private MalformedException(String message) {
      super(message, null, false, false);
    }
  }

  /** A number as it stands in the text. */
  record Numeral(String text) {}

  /** The value {@code null}. */
  static final Object NULL = new Object();

  private static final int MAX_DEPTH = 200;

  /**
   * In an object and those around it. Names are kept to find one that is there twice, at ten times the size of the
   * text.
   */
  private static final int MAX_NAMES = 100_000;

  /** So many digits are within the range of a double, whatever they are. */
  private static final int SAFE_DIGITS = 300;

  private static final char[] HEX = "0123456789abcdef".toCharArray();

  private final byte[] text;
  private final int end;
  private int at;
  private int names;

  private Json(byte[] text, int end) {
    this.text = text;
    this.end = end;
  }

  /**
   * Reads all of a text.
   *
   * @return a {@code Map}, {@code List}, {@code String}, {@link Numeral}, {@code Boolean} or {@link #NULL}
   */
  static Object parse(byte[] text) throws MalformedException {
    Json json = new Json(text, text.length);
    json.space();
    Object value = json.value(1, true);
    json.finish();
    return value;
  }

  /** Takes the members of an object one by one; must read or skip the value of each. */
  interface Members {
    void member(String name, Json value) throws MalformedException;
  }

  /** Reads a text whose value is an object, from the beginning of the array to {@code end}. */
  static void parseObject(byte[] text, int end, Members members) throws MalformedException {
    Json json = new Json(text, end);
    json.space();
    if (json.peek() != '{') {
      throw json.malformed("an object is expected");
    }
    json.object(members);
    json.finish();
  }

  /** The value that comes next. */
  Object read() throws MalformedException {
    return value(2, true);
  }

  /** Checks the value that comes next, without keeping it. */
  void skip() throws MalformedException {
    value(2, false);
  }

  /** Where the reader stands, in bytes. */
  int position() {
    return at;
  }

  /** The byte that comes next, or a number below zero at the end. */
  int peek() {
    return at < end ? text[at] & 0xff : -1;
  }

  private MalformedException malformed(String what) {
    return new MalformedException(what + " at byte " + at);
  }

  private void finish() throws MalformedException {
    space();
    if (at != end) {
      throw malformed("the end is expected");
    }
  }

  private void space() {
    while (at < end) {
      byte c = text[at];
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
        return;
      }
      at++;
    }
  }

  private void expect(char c) throws MalformedException {
    if (peek() != c) {
      throw malformed("'" + c + "' is expected");
    }
    at++;
  }

  private Object value(int depth, boolean keep) throws MalformedException {
    if (depth > MAX_DEPTH) {
      throw malformed("more than " + MAX_DEPTH + " levels");
    }
    return switch (peek()) {
      case '{' -> keep ? map(depth) : skipObject(depth);
      case '[' -> array(depth, keep);
      case '"' -> string(keep);
      case 't' -> literal("true", true);
      case 'f' -> literal("false", false);
      case 'n' -> literal("null", NULL);
      default -> number();
    };
  }

  private Map<String, Object> map(int depth) throws MalformedException {
    Map<String, Object> map = new LinkedHashMap<>();
    object(new Members() {
      @Override
      public void member(String name, Json json) throws MalformedException {
        map.put(name, json.value(depth + 1, true));
      }
    });
    return map;
  }

  private Object skipObject(int depth) throws MalformedException {
    object(new Members() {
      @Override
      public void member(String name, Json json) throws MalformedException {
        json.value(depth + 1, false);
      }
    });
    return NULL;
  }

  private void object(Members members) throws MalformedException {
    expect('{');
    space();
    if (peek() == '}') {
      at++;
      return;
    }
    Set<String> known = new HashSet<>();
    while (true) {
      if (peek() != '"') {
        throw malformed("a key is expected");
      }
      String name = string(true);
      if (!known.add(name)) {
        throw malformed("the same key twice in an object");
      }
      if (++names > MAX_NAMES) {
        throw malformed("more than " + MAX_NAMES + " keys in an object and those around it");
      }
      space();
      expect(':');
      space();
      members.member(name, this);
      space();
      if (peek() == '}') {
        at++;
        names -= known.size();
        return;
      }
      expect(',');
      space();
    }
  }

  private Object array(int depth, boolean keep) throws MalformedException {
    expect('[');
    space();
    List<Object> list = new ArrayList<>();
    if (peek() == ']') {
      at++;
      return list;
    }
    while (true) {
      Object value = value(depth + 1, keep);
      if (keep) {
        list.add(value);
      }
      space();
      if (peek() == ']') {
        at++;
        return list;
      }
      expect(',');
      space();
    }
  }

  private Object literal(String word, Object value) throws MalformedException {
    for (int i = 0; i < word.length(); i++) {
      if (peek() != word.charAt(i)) {
        throw malformed("a value is expected");
      }
      at++;
    }
    return value;
  }

  private Numeral number() throws MalformedException {
    int begin = at;
    if (peek() == '-') {
      at++;
    }
    if (peek() == '0') {
      at++;
    } else {
      digits();
    }
    boolean exponent = false;
    if (peek() == '.') {
      at++;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      exponent = true;
      at++;
      if (peek() == '+' || peek() == '-') {
        at++;
      }
      digits();
    }
    String number = new String(text, begin, at - begin, ISO_8859_1);
    if ((exponent || number.length() > SAFE_DIGITS)
        && Double.isInfinite(Double.parseDouble(number))) {
      throw malformed("a number beyond the range of a double");
    }
    return new Numeral(number);
  }

  private void digits() throws MalformedException {
    int begin = at;
    while (peek() >= '0' && peek() <= '9') {
      at++;
    }
    if (at == begin) {
      throw malformed("a value or a digit is expected");
    }
  }

  private String string(boolean keep) throws MalformedException {
    expect('"');
    int begin = at;
    while (at < end) {
      int c = text[at];
      if (c == '"') {
        String plain = keep ? new String(text, begin, at - begin, ISO_8859_1) : "";
        at++;
        return plain;
      }
      if (c == '\\' || c < ' ') { // a byte of a multi-byte character is negative
        break;
      }
      at++;
    }
    StringBuilder decoded = new StringBuilder();
    if (keep) {
      decoded.append(new String(text, begin, at - begin, ISO_8859_1));
    }
    while (true) {
      int c = peek();
      if (c == '"') {
        at++;
        return decoded.toString();
      }
      int character = c == '\\' ? escaped() : c < 0x80 ? ascii(c) : utf8(c);
      if (keep) {
        decoded.appendCodePoint(character);
      }
    }
  }

  private int ascii(int c) throws MalformedException {
    if (c < 0) {
      throw malformed("a string without an end");
    }
    if (c < ' ') {
      throw malformed("a control character in a string");
    }
    at++;
    return c;
  }

  private int utf8(int first) throws MalformedException {
    int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    int minimum = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    int character = first & (0x3f >> more);
    if (first < 0xc2 || first > 0xf4 || at + more >= end) {
      throw malformed("no valid UTF-8");
    }
    for (int i = 1; i <= more; i++) {
      int next = text[at + i];
      if ((next & 0xc0) != 0x80) {
        throw malformed("no valid UTF-8");
      }
      character = (character << 6) | (next & 0x3f);
    }
    if (character < minimum
        || character > Character.MAX_CODE_POINT
        || Character.getType(character) == Character.SURROGATE) {
      throw malformed("no valid UTF-8");
    }
    at += more + 1;
    return character;
  }

  private int escaped() throws MalformedException {
    at++;
    int c = peek();
    at++;
    return switch (c) {
      case '"', '\\', '/' -> c;
      case 'b' -> '\b';
      case 'f' -> '\f';
      case 'n' -> '\n';
      case 'r' -> '\r';
      case 't' -> '\t';
      case 'u' -> unicode();
      default -> throw malformed("an unknown escape before this");
    };
  }

  private int unicode() throws MalformedException {
    char first = hex();
    if (!Character.isSurrogate(first)) {
      return first;
    }
    if (Character.isHighSurrogate(first) && peek() == '\\') {
      at++;
      if (peek() == 'u') {
        at++;
        char second = hex();
        if (Character.isLowSurrogate(second)) {
          return Character.toCodePoint(first, second);
        }
      }
    }
    throw malformed("half of a surrogate pair before this");
  }

  private char hex() throws MalformedException {
    int value = 0;
    for (int i = 0; i < 4; i++) {
      int c = peek();
      int digit = c < 0 ? -1 : Character.digit((char) c, 16);
      if (c >= 0x80 || digit < 0) {
        throw malformed("a hexadecimal digit is expected");
      }
      value = (value << 4) | digit;
      at++;
    }
    return (char) value;
  }

  /** Appends a text as a JSON string. */
  static void quote(String value, StringBuilder json) {
    json.append('"');
    for (int i = 0; i < value.length(); i++) {
      char c = value.charAt(i);
      if (c == '"' || c == '\\') {
        json.append('\\').append(c);
      } else if (c < ' ' || c == 0x7f || c == '\u2028' || c == '\u2029') {
        json.append("\\u");
        for (int shift = 12; shift >= 0; shift -= 4) {
          json.append(HEX[(c >> shift) & 0xf]);
        }
      } else {
        json.append(c);
      }
    }
    json.append('"');
  }

  /** The value of a member, or null when there is none or it is {@code null}. */
  static @Nullable Object get(Map<?, ?> object, String name) {
    Object value = object.get(name);
    return value == NULL ? null : value;
  }
}
