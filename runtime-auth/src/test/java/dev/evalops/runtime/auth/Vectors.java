package dev.evalops.runtime.auth;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Inputs and outputs that other implementations agree on. */
final class Vectors {
  private Vectors() {}

  static List<JsonNode> cases(String file) throws IOException {
    try (InputStream in = Vectors.class.getResourceAsStream("/" + file)) {
      List<JsonNode> cases = new ArrayList<>();
      JsonMapper.shared().readTree(in).get("cases").forEach(cases::add);
      if (cases.isEmpty()) {
        throw new AssertionError(file + " has no cases");
      }
      return cases;
    }
  }
}
