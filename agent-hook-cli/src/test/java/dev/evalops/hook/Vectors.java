package dev.evalops.hook;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** What is in the test resources. */
final class Vectors {
  static final JsonMapper JSON = new JsonMapper();

  private Vectors() {}

  static Stream<JsonNode> cases(String name) {
    return JSON.readTree(resource("/vectors/" + name)).get("cases").valueStream();
  }

  static byte[] payload(String name) {
    return resource("/payloads/" + name);
  }

  private static byte[] resource(String path) {
    try (InputStream in = Vectors.class.getResourceAsStream(path)) {
      if (in == null) {
        throw new AssertionError("no " + path);
      }
      return in.readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
