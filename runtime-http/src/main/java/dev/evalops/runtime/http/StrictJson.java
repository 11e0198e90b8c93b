package dev.evalops.runtime.http;

import java.io.DataInput;
import java.io.InputStream;
import java.io.Reader;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZonedDateTime;
import java.util.Calendar;
import java.util.Date;
import java.util.IllformedLocaleException;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.TimeZone;
import java.util.UUID;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.SerializableString;
import tools.jackson.core.exc.StreamReadException;
import tools.jackson.core.io.IOContext;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.sym.PropertyNameMatcher;
import tools.jackson.core.util.JsonParserDelegate;
import tools.jackson.databind.BeanDescription;
import tools.jackson.databind.BeanProperty;
import tools.jackson.databind.DeserializationConfig;
import tools.jackson.databind.DeserializationContext;
import tools.jackson.databind.JacksonModule;
import tools.jackson.databind.JavaType;
import tools.jackson.databind.KeyDeserializer;
import tools.jackson.databind.ValueDeserializer;
import tools.jackson.databind.deser.ValueDeserializerModifier;
import tools.jackson.databind.deser.std.DelegatingDeserializer;
import tools.jackson.databind.deser.std.StdDeserializer;
import tools.jackson.databind.module.SimpleModule;
import tools.jackson.databind.type.ArrayType;
import tools.jackson.databind.util.ClassUtil;

/**
 * What Jackson takes and changes on the way is refused: texts that UTF-8 or a database cannot hold, numbers and times
 * that do not fit. The parser sees to what needs no type to be wrong, the module to the rest.
 */
final class StrictJson {
  private static final int MAX_SCALE = 1000;
  // Shorter ones without an exponent fit a double.
  private static final int SHORT_NUMBER = 300;
  private static final Pattern NUMBER =
      Pattern.compile("\\s*[+-]?[0-9]+(\\.[0-9]*)?([eE][+-]?[0-9]+)?\\s*");
  private static final BigDecimal MAX_SECONDS = BigDecimal.valueOf(Long.MAX_VALUE);
  private static final BigDecimal MIN_SECONDS = BigDecimal.valueOf(Long.MIN_VALUE);

  private static final Set<Class<?>> FLOATS = Set.of(
      double.class,
      Double.class,
      float.class,
      Float.class,
      Number.class,
      double[].class,
      float[].class);
  // Those that may be numbers; a text of them is never one.
  private static final Set<Class<?>> TIMES =
      Set.of(Instant.class, OffsetDateTime.class, ZonedDateTime.class, Duration.class);
  // What begins or ends a part that Jackson drops: a time behind a date, a date, a zone.
  private static final Map<Class<?>, String> DROPPED =
      Map.of(LocalDate.class, "T", LocalTime.class, "T", LocalDateTime.class, "Z");
  // Of which Jackson takes one text for another, or for none.
  private static final Set<Class<?>> NAMES = Set.of(TimeZone.class, Locale.class, UUID.class);

  private StrictJson() {}

  /** The parser, whichever mapper has made it. */
  static JsonParser parser(JsonParser parser) {
    return parser instanceof Parser ? parser : new Parser(parser);
  }

  static JsonFactory factory() {
    return new Factory();
  }

  static JacksonModule module() {
    return new SimpleModule("strict")
        .addDeserializer(OptionalDouble.class, new OptionalDoubles())
        .setDeserializerModifier(new Modifier());
  }

  private static final class Factory extends JsonFactory {
    private static final long serialVersionUID = 1;

    Factory() {}

    private Factory(Factory source) {
      super(source);
    }

    @Override
    public JsonFactory copy() {
      return new Factory(this);
    }

    @Override
    protected JsonParser _createParser(ObjectReadContext context, IOContext io, InputStream in) {
      return new Parser(super._createParser(context, io, in));
    }

    @Override
    protected JsonParser _createParser(ObjectReadContext context, IOContext io, Reader reader) {
      return new Parser(super._createParser(context, io, reader));
    }

    @Override
    protected JsonParser _createParser(
        ObjectReadContext context, IOContext io, char[] data, int offset, int length, boolean own) {
      return new Parser(super._createParser(context, io, data, offset, length, own));
    }

    @Override
    protected JsonParser _createParser(
        ObjectReadContext context, IOContext io, byte[] data, int offset, int length) {
      return new Parser(super._createParser(context, io, data, offset, length));
    }

    @Override
    protected JsonParser _createParser(ObjectReadContext context, IOContext io, DataInput in) {
      return new Parser(super._createParser(context, io, in));
    }
  }

  private static final class Parser extends JsonParserDelegate {
    Parser(JsonParser parser) {
      super(parser);
    }

    @Override
    public @Nullable JsonToken nextToken() {
      return checked(delegate.nextToken());
    }

    @Override
    public @Nullable JsonToken nextValue() {
      JsonToken token = nextToken();
      return token == JsonToken.PROPERTY_NAME ? nextToken() : token;
    }

    @Override
    public @Nullable String nextName() {
      String name = delegate.nextName();
      checked(delegate.currentToken());
      return name;
    }

    @Override
    public boolean nextName(SerializableString expected) {
      boolean same = delegate.nextName(expected);
      checked(delegate.currentToken());
      return same;
    }

    @Override
    public int nextNameMatch(PropertyNameMatcher matcher) {
      int match = delegate.nextNameMatch(matcher);
      checked(delegate.currentToken());
      return match;
    }

    @Override
    public int nextNameMatchAndToken(PropertyNameMatcher matcher) {
      int match = nextNameMatch(matcher);
      if (match >= 0) {
        nextToken();
      }
      return match;
    }

    /** Not up to 255. */
    @Override
    public byte getByteValue() {
      int value = delegate.getIntValue();
      if (value != (byte) value) {
        throw new StreamReadException(this, "number out of the range of a byte");
      }
      return (byte) value;
    }

    private @Nullable JsonToken checked(@Nullable JsonToken token) {
      if (token == JsonToken.PROPERTY_NAME) {
        String name = delegate.currentName();
        if (name != null) {
          checkText(name);
        }
      } else if (token == JsonToken.VALUE_STRING) {
        checkText(delegate.getString());
      } else if (token == JsonToken.VALUE_NUMBER_FLOAT) {
        checkNumber(delegate.getString());
      }
      return token;
    }

    private void checkText(String text) {
      for (int i = 0; i < text.length(); i++) {
        char c = text.charAt(i);
        if (Character.isHighSurrogate(c)
            && i + 1 < text.length()
            && Character.isLowSurrogate(text.charAt(i + 1))) {
          i++;
        } else if (c == 0 || Character.isSurrogate(c)) {
          throw new StreamReadException(this, "text with NUL or half a surrogate pair");
        }
      }
    }

    private void checkNumber(String number) {
      if (number.length() < SHORT_NUMBER && number.indexOf('e') < 0 && number.indexOf('E') < 0) {
        return;
      }
      try {
        int scale = new BigDecimal(number).scale();
        if (scale >= -MAX_SCALE
            && scale <= MAX_SCALE
            && Double.isFinite(Double.parseDouble(number))) {
          return;
        }
      } catch (NumberFormatException e) {
        // An exponent beyond an int.
      }
      throw new StreamReadException(this, "number out of range");
    }
  }

  private static final class Modifier extends ValueDeserializerModifier {
    private static final long serialVersionUID = 1;

    @Override
    public ValueDeserializer<?> modifyDeserializer(
        DeserializationConfig config,
        BeanDescription.Supplier description,
        ValueDeserializer<?> deserializer) {
      return strict(description.getBeanClass(), deserializer);
    }

    @Override
    public ValueDeserializer<?> modifyArrayDeserializer(
        DeserializationConfig config,
        ArrayType type,
        BeanDescription.Supplier description,
        ValueDeserializer<?> deserializer) {
      return strict(type.getRawClass(), deserializer);
    }

    @Override
    public KeyDeserializer modifyKeyDeserializer(
        DeserializationConfig config, JavaType type, KeyDeserializer deserializer) {
      Class<?> raw = type.getRawClass();
      return FLOATS.contains(raw)
              || isByte(raw)
              || isTime(raw)
              || (NAMES.contains(raw) && ClassUtil.isJacksonStdImpl(deserializer))
          ? new StrictKey(raw, deserializer)
          : deserializer;
    }

    private static ValueDeserializer<?> strict(Class<?> type, ValueDeserializer<?> deserializer) {
      return FLOATS.contains(type)
              || isByte(type)
              || isTime(type)
              || (NAMES.contains(type) && ClassUtil.isJacksonStdImpl(deserializer))
              || DROPPED.containsKey(type)
          ? new Strict(type, deserializer)
          : deserializer;
    }
  }

  private static boolean isByte(Class<?> type) {
    return type == byte.class || type == Byte.class;
  }

  private static boolean isTime(Class<?> type) {
    return TIMES.contains(type)
        || Date.class.isAssignableFrom(type)
        || Calendar.class.isAssignableFrom(type);
  }

  /** Whether a text is a name that Jackson does not take for another, or for none. */
  private static boolean isName(Class<?> type, String text) {
    String name = text.trim();
    if (type == UUID.class) {
      return HttpRequests.isUuid(name);
    }
    if (type == TimeZone.class) { // one that is not known is GMT to the JDK
      return name.equals("GMT") || !TimeZone.getTimeZone(name).getID().equals("GMT");
    }
    try {
      new Locale.Builder().setLanguageTag(name.replace('_', '-'));
      return true;
    } catch (IllformedLocaleException e) {
      return false;
    }
  }

  /** Jackson would take the script of {@code zh_Hant_TW} for a country. */
  private static Locale locale(String name) {
    return Locale.forLanguageTag(name.trim().replace('_', '-'));
  }

  private static boolean isFinite(@Nullable Object value) {
    if (value instanceof Double number) {
      return Double.isFinite(number);
    }
    if (value instanceof Float number) {
      return Float.isFinite(number);
    }
    if (value instanceof double[] numbers) {
      for (double number : numbers) {
        if (!Double.isFinite(number)) {
          return false;
        }
      }
    } else if (value instanceof float[] numbers) {
      for (float number : numbers) {
        if (!Float.isFinite(number)) {
          return false;
        }
      }
    }
    return true;
  }

  private static final class Strict extends DelegatingDeserializer {
    private final Class<?> type;

    Strict(Class<?> type, ValueDeserializer<?> delegate) {
      super(delegate);
      this.type = type;
    }

    @Override
    protected ValueDeserializer<?> newDelegatingInstance(ValueDeserializer<?> delegate) {
      return new Strict(type, delegate);
    }

    /** A pattern of the service's own says itself what there may be. */
    @Override
    public ValueDeserializer<?> createContextual(
        DeserializationContext context, @Nullable BeanProperty property) {
      return DROPPED.containsKey(type)
              && findFormatOverrides(context, property, type).hasPattern()
          ? context.handleSecondaryContextualization(
              _delegatee, property, context.constructType(type))
          : super.createContextual(context, property);
    }

    @Override
    public @Nullable Object deserialize(JsonParser parser, DeserializationContext context) {
      JsonToken token = parser.currentToken();
      boolean good = true;
      if (isByte(type) && token == JsonToken.VALUE_NUMBER_INT) {
        int value = parser.getIntValue();
        good = value == (byte) value;
      } else if (isTime(type) && token == JsonToken.VALUE_NUMBER_FLOAT) {
        BigDecimal seconds = parser.getDecimalValue();
        good = seconds.compareTo(MIN_SECONDS) >= 0 && seconds.compareTo(MAX_SECONDS) <= 0;
      } else if (isTime(type) && token == JsonToken.VALUE_STRING) {
        good = !NUMBER.matcher(parser.getString()).matches();
      } else if (DROPPED.containsKey(type) && token == JsonToken.VALUE_STRING) {
        good = !parser.getString().contains(DROPPED.get(type));
      } else if (NAMES.contains(type)) {
        good = token == JsonToken.VALUE_EMBEDDED_OBJECT
            || (token == JsonToken.VALUE_STRING && isName(type, parser.getString()));
        if (good && type == Locale.class && token == JsonToken.VALUE_STRING) {
          return locale(parser.getString());
        }
      }
      Object value = good ? super.deserialize(parser, context) : null;
      if (!good || !isFinite(value)) {
        throw new StreamReadException(parser, "not a " + type.getSimpleName());
      }
      return value;
    }
  }

  /** Jackson's own one is out of reach of a modifier. */
  private static final class OptionalDoubles extends StdDeserializer<OptionalDouble> {
    OptionalDoubles() {
      super(OptionalDouble.class);
    }

    @Override
    public OptionalDouble getNullValue(DeserializationContext context) {
      return OptionalDouble.empty();
    }

    @Override
    public OptionalDouble deserialize(JsonParser parser, DeserializationContext context) {
      JsonToken token = parser.currentToken();
      double value = token != null && token.isNumeric() ? parser.getDoubleValue() : Double.NaN;
      if (!Double.isFinite(value)) {
        throw new StreamReadException(parser, "not a double");
      }
      return OptionalDouble.of(value);
    }
  }

  private static final class StrictKey extends KeyDeserializer {
    private final Class<?> type;
    private final KeyDeserializer delegate;

    StrictKey(Class<?> type, KeyDeserializer delegate) {
      this.type = type;
      this.delegate = delegate;
    }

    @Override
    public @Nullable Object deserializeKey(String key, DeserializationContext context) {
      boolean good = NAMES.contains(type)
          ? isName(type, key)
          : !isTime(type) || !NUMBER.matcher(key).matches();
      if (good && type == Locale.class) {
        return locale(key);
      }
      Object value = good ? delegate.deserializeKey(key, context) : null;
      if (value instanceof Byte number) {
        good = key.matches("[+-]?[0-9]{1,9}") && Integer.parseInt(key) == number;
      }
      if (!good || !isFinite(value)) {
        return context.handleWeirdKey(type, key, "not a %s", type.getSimpleName());
      }
      return value;
    }
  }
}
