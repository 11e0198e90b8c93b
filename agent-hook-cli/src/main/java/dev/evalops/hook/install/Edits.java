package dev.evalops.hook.install;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;

/** Changes of a text by position, so that everything else in it stays as it is, byte for byte. */
final class Edits {
  private record Edit(int start, int end, String text) {}

  private final String text;
  private final List<Edit> edits = new ArrayList<>();

  Edits(String text) {
    this.text = text;
  }

  void insert(int position, String inserted) {
    replace(position, position, inserted);
  }

  void replace(int start, int end, String replacement) {
    edits.add(new Edit(start, end, replacement));
  }

  String apply() {
    StringBuilder result = new StringBuilder(text);
    List<Edit> backwards = new ArrayList<>(edits);
    Collections.reverse(backwards); // of several at one place, the first stays first
    backwards.sort(Comparator.comparingInt(Edit::start).reversed());
    for (Edit edit : backwards) {
      result.replace(edit.start(), edit.end(), edit.text());
    }
    return result.toString();
  }
}
