package dev.evalops.runtime.changejournal;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Objects;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Inputs and what the other system makes of them. */
final class Vectors {
  private Vectors() {}

  static Stream<JsonNode> cases(String name) {
    try (InputStream in =
        Objects.requireNonNull(Vectors.class.getResourceAsStream("/vectors/" + name))) {
      return JsonMapper.shared().readTree(in).get("cases").valueStream();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
