package dev.evalops.runtime.ratelimit;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Inputs and outputs of the system that this one runs beside. */
final class Vectors {
  private Vectors() {}

  static List<JsonNode> cases(String file) {
    try (InputStream in = Vectors.class.getResourceAsStream("/" + file)) {
      return List.copyOf(new JsonMapper().readTree(in).get("cases").values());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
