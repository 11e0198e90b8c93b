package dev.evalops.runtime.changejournal;

import org.jspecify.annotations.Nullable;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.util.JsonParserDelegate;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.util.RawValue;

/** Reads the JSON of both tables: a row that cannot be read would be the last that a reader sees. */
final class JournalJson {
  private static final JsonMapper MAPPER = JsonMapper.builder(Payload.UNLIMITED)
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
      .build();

  private JournalJson() {}

  static JsonNode read(@Nullable String json) {
    String text = json == null ? "null" : json;
    try {
      return MAPPER.readTree(text);
    } catch (NumberFormatException beyond) {
      return MAPPER.readTree(new RawNumbers(MAPPER.createParser(text)));
    }
  }

  /** Gives numbers that no {@link java.math.BigDecimal} can be as they are written. */
  private static final class RawNumbers extends JsonParserDelegate {
    private @Nullable RawValue raw;

    RawNumbers(JsonParser parser) {
      super(parser);
    }

    @Override
    public @Nullable JsonToken nextToken() {
      JsonToken token = super.nextToken();
      look(token);
      return raw == null ? token : JsonToken.VALUE_EMBEDDED_OBJECT;
    }

    private void look(@Nullable JsonToken token) {
      raw = null;
      if (token == JsonToken.VALUE_NUMBER_FLOAT) {
        try {
          getDecimalValue();
        } catch (NumberFormatException beyond) {
          raw = new RawValue(getString());
        }
      }
    }

    @Override
    public @Nullable String nextName() {
      String name = super.nextName();
      look(super.currentToken());
      return name;
    }

    @Override
    public @Nullable JsonToken currentToken() {
      return raw == null ? super.currentToken() : JsonToken.VALUE_EMBEDDED_OBJECT;
    }

    @Override
    public int currentTokenId() {
      return raw == null ? super.currentTokenId() : JsonToken.VALUE_EMBEDDED_OBJECT.id();
    }

    @Override
    public @Nullable Object getEmbeddedObject() {
      return raw;
    }
  }
}
