package dev.evalops.runtime.featureflags;

import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.core.TokenStreamLocation;
import tools.jackson.core.json.JsonFactory;

/**
 * Reads the JSON form of {@code config.v1.FeatureFlagSnapshot}, in both spellings that the protobuf JSON mapping has.
 */
final class FlagFile {
  static final int MAX_BYTES = 4 << 20;

  private static final JsonFactory JSON =
      JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();
  private static final long MAX_UINT32 = 0xffff_ffffL;
  private static final int MAX_DOUBTS = 20;
  /** As JSON has it: BigDecimal reads more, such as a plus sign and digits of other scripts. */
  private static final Pattern NUMBER =
      Pattern.compile("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?");

  /** Why the file cannot be used; the message is for an operator. */
  static final class UnusableException extends Exception {
    private static final long serialVersionUID = 1L;

    UnusableException(String message) {
      super(message);
    }
  }

  /**
   * What a file says, with what is doubtful about it.
   *
   * @param deliberate whether it has flags, or says that there are none; else it may be anything
   */
  record Contents(Map<String, Rollout> flags, boolean deliberate, List<String> doubts) {}

  /** The first twenty warnings, and how many more. */
  private static final class Doubts {
    private final List<String> first = new ArrayList<>();
    private int count;

    void add(String doubt) {
      if (++count <= MAX_DOUBTS) {
        first.add(doubt);
      }
    }

    List<String> all() {
      if (count > MAX_DOUBTS) {
        first.add("and " + (count - MAX_DOUBTS) + " more like these");
      }
      return List.copyOf(first);
    }
  }

  private FlagFile() {}

  static byte[] read(Path path) throws UnusableException {
    try {
      if (!Files.readAttributes(path, BasicFileAttributes.class).isRegularFile()) {
        throw new UnusableException("stat_feature_flags: " + path + " is not a file");
      }
      try (InputStream in = Files.newInputStream(path)) {
        byte[] bytes = in.readNBytes(MAX_BYTES + 1);
        if (bytes.length > MAX_BYTES) {
          throw new UnusableException(
              "read_feature_flags: " + path + " is larger than " + (MAX_BYTES >> 20) + " MiB");
        }
        return bytes;
      }
    } catch (NoSuchFileException e) {
      throw new UnusableException("stat_feature_flags: there is no file " + path);
    } catch (AccessDeniedException e) {
      throw new UnusableException(
          "read_feature_flags: permission denied: " + path + " or a folder above it");
    } catch (IOException e) {
      throw new UnusableException("read_feature_flags: " + e);
    }
  }

  static Contents parse(byte[] json) throws UnusableException {
    String text = text(json);
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), text)) {
      require(parser, parser.nextToken(), JsonToken.START_OBJECT, "the file");
      Map<String, Rollout> flags = new HashMap<>();
      Doubts doubts = new Doubts();
      boolean version = false;
      boolean seen = false;
      boolean keyless = false;
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String field = parser.currentName();
        JsonToken value = parser.nextToken();
        switch (field) {
          case "schema_version", "schemaVersion" -> {
            if (version) {
              throw unusable(parser, "duplicate schema_version");
            }
            uint32(parser, value, field);
            version = true;
          }
          case "flags" -> {
            if (value != JsonToken.VALUE_NULL) {
              require(parser, value, JsonToken.START_ARRAY, field);
              while (parser.nextToken() != JsonToken.END_ARRAY) {
                keyless |= !flag(parser, flags, doubts);
              }
            }
            seen = true;
          }
          default -> parser.skipChildren();
        }
      }
      if (parser.nextToken() != null) {
        throw unusable(parser, "something follows the object");
      }
      if (!seen) {
        doubts.add("the file has no flags");
      }
      checkTexts(text);
      boolean deliberate = seen && !(flags.isEmpty() && keyless);
      return new Contents(Map.copyOf(flags), deliberate, doubts.all());
    } catch (JacksonException e) {
      TokenStreamLocation at = e.getLocation();
      throw new UnusableException("unmarshal_feature_flags: " + e.getOriginalMessage()
          + (at == null ? "" : " (line " + at.getLineNr() + ")"));
    }
  }

  /** JSON is UTF-8; the parser would guess at other encodings and take malformed characters. */
  private static String text(byte[] json) throws UnusableException {
    try {
      String text =
          StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(json)).toString();
      return text.startsWith("\ufeff") ? text.substring(1) : text;
    } catch (CharacterCodingException e) {
      throw new UnusableException("unmarshal_feature_flags: the file is not UTF-8");
    }
  }

  /** Half a surrogate pair is no text: what it becomes differs from reader to reader. */
  private static void checkTexts(String json) throws UnusableException {
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      for (JsonToken token = parser.nextToken(); token != null; token = parser.nextToken()) {
        if ((token == JsonToken.VALUE_STRING || token == JsonToken.PROPERTY_NAME)
            && !StandardCharsets.UTF_8.newEncoder().canEncode(parser.getString())) {
          throw unusable(parser, "a text has half a surrogate pair");
        }
      }
    }
  }

  /** Reads a flag; false if it has no key. */
  private static boolean flag(JsonParser parser, Map<String, Rollout> flags, Doubts doubts)
      throws UnusableException {
    require(parser, parser.currentToken(), JsonToken.START_OBJECT, "each of flags");
    String key = "";
    boolean enabled = false;
    long percent = -1;
    List<String> owners = new ArrayList<>();
    String description = "";
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String field = parser.currentName();
      JsonToken value = parser.nextToken();
      switch (field) {
        case "key" -> key = Blank.trim(string(parser, value, field));
        case "enabled" -> enabled = bool(parser, value);
        case "rollout_percent", "rolloutPercent" -> {
          if (percent >= 0) {
            throw unusable(parser, "duplicate rollout_percent");
          }
          if (value != JsonToken.VALUE_NULL) {
            percent = uint32(parser, value, field);
          }
        }
        case "owners" -> {
          if (value != JsonToken.VALUE_NULL) {
            require(parser, value, JsonToken.START_ARRAY, field);
            for (JsonToken owner = parser.nextToken();
                owner != JsonToken.END_ARRAY;
                owner = parser.nextToken()) {
              require(parser, owner, JsonToken.VALUE_STRING, "each of owners");
              owners.add(parser.getString());
            }
          }
        }
        case "description" -> description = string(parser, value, field);
        default -> parser.skipChildren();
      }
    }
    if (key.isEmpty()) {
      doubts.add("a flag without a key is left out");
      return false;
    }
    if (percent == 0) {
      doubts.add("flag " + key
          + " has rollout_percent 0, which means 100; to turn it off, set enabled to false");
    } else if (percent > 100) {
      doubts.add("flag " + key + " has rollout_percent " + percent + ", which means 100");
    }
    int effective = percent < 1 || percent > 100 ? 100 : (int) percent;
    Flag flag = new Flag(key, enabled, effective, percent > 0, owners, description);
    if (flags.put(key, new Rollout(flag)) != null) {
      doubts.add("flag " + key + " is given more than once; the last one counts");
    }
    return true;
  }

  private static String string(JsonParser parser, JsonToken value, String field)
      throws UnusableException {
    if (value == JsonToken.VALUE_NULL) {
      return "";
    }
    require(parser, value, JsonToken.VALUE_STRING, field);
    return parser.getString();
  }

  private static boolean bool(JsonParser parser, JsonToken value) throws UnusableException {
    return switch (value) {
      case VALUE_TRUE -> true;
      case VALUE_FALSE, VALUE_NULL -> false;
      default -> throw unusable(parser, "enabled must be true or false");
    };
  }

  /** A number, or one in quotes, as the protobuf JSON mapping allows; an exponent or a zero fraction too. */
  private static long uint32(JsonParser parser, JsonToken value, String field)
      throws UnusableException {
    if (value == JsonToken.VALUE_NULL) {
      return 0;
    }
    boolean readable = value == JsonToken.VALUE_NUMBER_INT
        || value == JsonToken.VALUE_NUMBER_FLOAT
        || value == JsonToken.VALUE_STRING;
    String text = readable ? parser.getString() : "";
    try {
      if (text.length() <= 64 && NUMBER.matcher(text).matches()) {
        long number = new BigDecimal(text).longValueExact();
        if (number >= 0 && number <= MAX_UINT32) {
          return number;
        }
      }
    } catch (ArithmeticException | NumberFormatException e) {
      // said below
    }
    throw unusable(parser, field + " must be a whole number from 0 to " + MAX_UINT32);
  }

  private static void require(
      JsonParser parser, @Nullable JsonToken token, JsonToken wanted, String what)
      throws UnusableException {
    if (token != wanted) {
      String kind = switch (wanted) {
        case START_OBJECT -> "an object";
        case START_ARRAY -> "an array";
        default -> "a string";
      };
      throw unusable(parser, what + " must be " + kind);
    }
  }

  private static UnusableException unusable(JsonParser parser, String problem) {
    return new UnusableException("unmarshal_feature_flags: " + problem + " (line "
        + parser.currentTokenLocation().getLineNr() + ")");
  }
}
