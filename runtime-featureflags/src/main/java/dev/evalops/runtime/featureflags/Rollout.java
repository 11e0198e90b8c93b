package dev.evalops.runtime.featureflags;

/**
 * A flag, and who is in its rollout: FNV-1a (32 bits) of {@code key:subject} in UTF-8, modulo 100, below the
 * percentage.
 */
final class Rollout {
  private static final int OFFSET_BASIS = 0x811c9dc5;
  private static final int PRIME = 0x01000193;

  private final Flag flag;
  private final int prefix; // the hash of "key:"

  Rollout(Flag flag) {
    this.flag = flag;
    prefix = add(hash(OFFSET_BASIS, flag.key(), 0, flag.key().length()), ':');
  }

  Flag flag() {
    return flag;
  }

  boolean reaches(String subject) {
    if (!flag.enabled()) {
      return false;
    }
    if (flag.rolloutPercent() == 100) {
      return true;
    }
    int start = Blank.start(subject);
    int end = Blank.end(subject, start);
    return start < end && bucket(subject, start, end) < flag.rolloutPercent();
  }

  int bucket(String subject, int start, int end) {
    return Integer.remainderUnsigned(hash(prefix, subject, start, end), 100);
  }

  /** Of the text in UTF-8, without making its bytes; a lone surrogate counts as U+FFFD. */
  private static int hash(int hash, String text, int start, int end) {
    for (int i = start; i < end; i++) {
      char c = text.charAt(i);
      if (c < 0x80) {
        hash = add(hash, c);
      } else if (c < 0x800) {
        hash = trail(add(hash, 0xc0 | (c >> 6)), c);
      } else if (!Character.isSurrogate(c)) {
        hash = threeBytes(hash, c);
      } else if (Character.isHighSurrogate(c)
          && i + 1 < end
          && Character.isLowSurrogate(text.charAt(i + 1))) {
        int point = Character.toCodePoint(c, text.charAt(++i));
        hash = trail(add(hash, 0xf0 | (point >> 18)), point >> 12);
        hash = trail(trail(hash, point >> 6), point);
      } else {
        hash = threeBytes(hash, 0xfffd);
      }
    }
    return hash;
  }

  private static int threeBytes(int hash, int point) {
    return trail(trail(add(hash, 0xe0 | (point >> 12)), point >> 6), point);
  }

  private static int trail(int hash, int point) {
    return add(hash, 0x80 | (point & 0x3f));
  }

  private static int add(int hash, int octet) {
    return (hash ^ octet) * PRIME;
  }
}
