package dev.evalops.runtime.events;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Compact JSON as bytes. Strings are escaped as Go's encoding/json does it ({@code <}, {@code >}, {@code &} and the
 * line separators too), so that both sides of a bus write equal bytes. Not thread-safe.
 */
final class JsonWriter {
  private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);
  private static final String REPLACEMENT = "\\ufffd";

  private byte[] buffer = new byte[1024];
  private int length;

  byte[] toBytes() {
    return Arrays.copyOf(buffer, length);
  }

  /** Appends ASCII characters as they are. */
  JsonWriter raw(String ascii) {
    int size = ascii.length();
    ensure(size);
    for (int i = 0; i < size; i++) {
      buffer[length++] = (byte) ascii.charAt(i);
    }
    return this;
  }

  JsonWriter raw(char ascii) {
    ensure(1);
    buffer[length++] = (byte) ascii;
    return this;
  }

  JsonWriter raw(byte[] bytes) {
    ensure(bytes.length);
    System.arraycopy(bytes, 0, buffer, length, bytes.length);
    length += bytes.length;
    return this;
  }

  /** Appends a quoted string. A lone surrogate becomes U+FFFD. */
  JsonWriter string(String text) {
    int size = text.length();
    ensure(size * 6 + 2); // the longest escape of one character
    byte[] to = buffer;
    int at = length;
    to[at++] = '"';
    for (int i = 0; i < size; i++) {
      char c = text.charAt(i);
      if (c < 0x80) {
        if (c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&') {
          to[at++] = (byte) c;
        } else {
          at = escape(to, at, c);
        }
      } else if (c < 0x800) {
        to[at++] = (byte) (0xC0 | (c >> 6));
        to[at++] = (byte) (0x80 | (c & 0x3F));
      } else if (Character.isSurrogate(c)) {
        int codePoint = text.codePointAt(i);
        if (Character.isSupplementaryCodePoint(codePoint)) {
          i++;
          to[at++] = (byte) (0xF0 | (codePoint >> 18));
          to[at++] = (byte) (0x80 | ((codePoint >> 12) & 0x3F));
          to[at++] = (byte) (0x80 | ((codePoint >> 6) & 0x3F));
          to[at++] = (byte) (0x80 | (codePoint & 0x3F));
        } else {
          for (int k = 0; k < REPLACEMENT.length(); k++) {
            to[at++] = (byte) REPLACEMENT.charAt(k);
          }
        }
      } else if (c == '\u2028' || c == '\u2029') {
        at = unicode(to, at, c);
      } else {
        to[at++] = (byte) (0xE0 | (c >> 12));
        to[at++] = (byte) (0x80 | ((c >> 6) & 0x3F));
        to[at++] = (byte) (0x80 | (c & 0x3F));
      }
    }
    to[at++] = '"';
    length = at;
    return this;
  }

  private static int escape(byte[] to, int at, char c) {
    char letter = switch (c) {
      case '"', '\\' -> c;
      case '\b' -> 'b';
      case '\f' -> 'f';
      case '\n' -> 'n';
      case '\r' -> 'r';
      case '\t' -> 't';
      default -> 0;
    };
    if (letter == 0) {
      return unicode(to, at, c);
    }
    to[at] = '\\';
    to[at + 1] = (byte) letter;
    return at + 2;
  }

  private static int unicode(byte[] to, int at, char c) {
    to[at] = '\\';
    to[at + 1] = 'u';
    to[at + 2] = HEX[c >> 12];
    to[at + 3] = HEX[(c >> 8) & 0xF];
    to[at + 4] = HEX[(c >> 4) & 0xF];
    to[at + 5] = HEX[c & 0xF];
    return at + 6;
  }

  private void ensure(int more) {
    if (buffer.length - length < more) {
      buffer = Arrays.copyOf(buffer, Math.addExact(length, Math.max(length, more)));
    }
  }
}
