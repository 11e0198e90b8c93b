package dev.evalops.runtime.observability.opentelemetry;

import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.context.propagation.TextMapPropagator;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.spi.ConfigurationException;
import io.opentelemetry.sdk.common.CompletableResultCode;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Traces, exported over OTLP/HTTP as the standard {@code OTEL_*} variables say; see OpenTelemetry's <a
 * href="https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/">list</a>.
 *
 * <pre>{@code
 * Tracing tracing = life.add("tracing", Tracing.open("notes"));
 * builder.filters(HttpTelemetry.filter(tracing.openTelemetry()), ...);
 * }</pre>
 *
 * <p>Without {@code OTEL_EXPORTER_OTLP_ENDPOINT} (or {@code OTEL_EXPORTER_OTLP_TRACES_ENDPOINT}, or {@code
 * OTEL_TRACES_EXPORTER}), with {@code OTEL_SDK_DISABLED=true} or {@code OTEL_TRACES_EXPORTER=none} no span is made and
 * nothing is started; the trace context of a caller is passed on all the same. What differs from the SDK's defaults:
 * {@code http/protobuf}; batches after 1 s and 5 s for an export; {@code OTEL_TRACES_SAMPLER} also as {@code 0.1} or
 * {@code traceidratio:0.1}; no command line among the attributes of the process; traces alone, no metrics or logs.
 * Nothing global is set.
 *
 * <p>Needs {@code opentelemetry-sdk-extension-autoconfigure} and {@code opentelemetry-exporter-otlp}. Thread-safe.
 */
public final class Tracing implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Tracing.class);
  private static final long FLUSH_SECONDS = 5;
  private static final List<String> ENDPOINTS =
      List.of("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");

  private static final List<String> HEADERS =
      List.of("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS");
  private static final Pattern HEADER_NAME = Pattern.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+");
  private static final Pattern HEADER_VALUE = Pattern.compile("[\t -~]*");
  private static final Pattern PROPERTY = Pattern.compile("\\botel(\\.[a-z0-9_-]+)+");
  private static final Pattern SERVICE_NAME = Pattern.compile("(^|,)service\\.name=\\s*[^,\\s]");
  /** Where secrets are given to programs. */
  private static final String COMMAND_LINE = "process.command_line,process.command_args";

  private final OpenTelemetry openTelemetry;
  private final Optional<OpenTelemetrySdk> sdk;
  private final AtomicBoolean closed = new AtomicBoolean();

  private Tracing(OpenTelemetry openTelemetry, Optional<OpenTelemetrySdk> sdk) {
    this.openTelemetry = openTelemetry;
    this.sdk = sdk;
  }

  /**
   * Starts what the environment says.
   *
   * @param service the service's name, where {@code OTEL_SERVICE_NAME} and {@code OTEL_RESOURCE_ATTRIBUTES} have none
   * @return the tracing; the caller closes it
   * @throws IllegalArgumentException {@code startup tracing: ...} naming the variables that are wrong
   */
  public static Tracing open(String service) {
    return from(System.getenv(), service);
  }

  static Tracing from(Map<String, String> environment, String service) {
    Objects.requireNonNull(service, "service");
    if (!isOn(environment)) {
      return new Tracing(
          OpenTelemetry.propagating(ContextPropagators.create(TextMapPropagator.composite(
              W3CTraceContextPropagator.getInstance(), W3CBaggagePropagator.getInstance()))),
          Optional.empty());
    }
    Map<String, String> properties = properties(environment, service);
    try {
      OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.builder()
          .addPropertiesCustomizer(config -> properties)
          .disableShutdownHook()
          .build()
          .getOpenTelemetrySdk();
      return new Tracing(sdk, Optional.of(sdk));
    } catch (ConfigurationException e) {
      String message = String.valueOf(e.getMessage());
      if (message.contains("header")) { // which hold keys
        throw new IllegalArgumentException("startup tracing: " + headersMustBe(HEADERS.get(0)));
      }
      throw new IllegalArgumentException("startup tracing: " + named(message, e, environment), e);
    }
  }

  /** The SDK speaks of its properties, and of what is out of its range without any name. */
  private static String named(
      String message, ConfigurationException failure, Map<String, String> environment) {
    String named = PROPERTY
        .matcher(message)
        .replaceAll(property ->
            property.group().toUpperCase(Locale.ROOT).replace('.', '_').replace('-', '_'));
    if (named.contains("OTEL_")) {
      return named;
    }
    Throwable cause = failure.getCause();
    List<String> given = environment.keySet().stream()
        .filter(name -> name.startsWith("OTEL_") && !value(environment, name).isEmpty())
        .sorted()
        .toList();
    return named + (cause == null ? "" : ": " + cause.getMessage()) + "; the cause is one of "
        + String.join(", ", given);
  }

  private static boolean isOn(Map<String, String> environment) {
    String exporter = value(environment, "OTEL_TRACES_EXPORTER");
    boolean disabled = value(environment, "OTEL_SDK_DISABLED").equalsIgnoreCase("true");
    return !disabled
        && !exporter.equals("none")
        && (!exporter.isEmpty()
            || ENDPOINTS.stream().anyMatch(name -> !value(environment, name).isEmpty()));
  }

  private static Map<String, String> properties(Map<String, String> environment, String service) {
    Map<String, String> properties = new HashMap<>(Map.of(
        "otel.exporter.otlp.protocol", "http/protobuf",
        "otel.exporter.otlp.timeout", "5000",
        "otel.bsp.schedule.delay", "1000",
        "otel.bsp.export.timeout", "5000"));
    environment.forEach((name, value) -> {
      if (name.startsWith("OTEL_") && !value.isBlank()) {
        properties.put(name.toLowerCase(Locale.ROOT).replace('_', '.'), Text.trim(value));
      }
    });
    properties.put("otel.metrics.exporter", "none");
    properties.put("otel.logs.exporter", "none");
    properties.merge(
        "otel.resource.disabled.keys", COMMAND_LINE, (theirs, ours) -> theirs + "," + ours);

    List<String> problems = new ArrayList<>();
    ENDPOINTS.forEach(name -> checkUrl(name, value(environment, name), problems));
    HEADERS.forEach(name -> {
      if (!areHeaders(value(environment, name))) {
        problems.add(headersMustBe(name));
      }
    });
    try {
      SamplerSetting sampler = SamplerSetting.parse(
          value(environment, "OTEL_TRACES_SAMPLER"), value(environment, "OTEL_TRACES_SAMPLER_ARG"));
      properties.put("otel.traces.sampler", sampler.sampler());
      properties.put("otel.traces.sampler.arg", Double.toString(sampler.ratio()));
    } catch (IllegalArgumentException e) {
      problems.add(String.valueOf(e.getMessage()));
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException("startup tracing: " + String.join("; ", problems));
    }
    String attributes = attributes(value(environment, "OTEL_RESOURCE_ATTRIBUTES"));
    properties.put("otel.resource.attributes", attributes);
    boolean named = SERVICE_NAME.matcher(attributes).find();
    if (value(environment, "OTEL_SERVICE_NAME").isEmpty() && !named) {
      properties.put(
          "otel.service.name", Text.trim(service).isEmpty() ? "service" : Text.trim(service));
    }
    return properties;
  }

  /**
   * The message does not hold the URL, which may have a password, or a key in its query. Behind a raw slash in a
   * password, the rest of it looks like a path up to the {@code @}.
   */
  private static void checkUrl(String name, String url, List<String> problems) {
    if (url.isEmpty()) {
      return;
    }
    try {
      URI uri = new URI(url);
      String scheme = String.valueOf(uri.getScheme()).toLowerCase(Locale.ROOT);
      if (uri.getHost() != null
          && uri.getPort() != 0
          && uri.getPort() <= 65535
          && url.indexOf('@') < 0
          && url.indexOf('?') < 0
          && url.indexOf('#') < 0
          && (scheme.equals("http") || scheme.equals("https"))) {
        return;
      }
    } catch (URISyntaxException e) {
      // said below
    }
    problems.add(name + " must be an http or https URL, for example http://collector:4318"
        + (url.indexOf('@') < 0
            ? ""
            : "; without user-info, which would not be sent: credentials are headers ("
                + HEADERS.get(0) + "), and @ elsewhere is written %40")
        + (url.indexOf('?') < 0 && url.indexOf('#') < 0
            ? ""
            : "; without a query and fragment: keys are headers (" + HEADERS.get(0) + ")"));
  }

  /** What cannot be sent would be in a warning at every export, with its value. */
  private static boolean areHeaders(String text) {
    for (String pair : text.split(",", -1)) {
      if (pair.isBlank()) {
        continue;
      }
      int equals = pair.indexOf('=');
      if (equals < 0
          || !HEADER_NAME.matcher(pair.substring(0, equals).strip()).matches()
          || !isDecodable(pair)
          || !HEADER_VALUE.matcher(decoded(pair.substring(equals + 1).strip())).matches()) {
        return false;
      }
    }
    return true;
  }

  private static String decoded(String value) {
    return URLDecoder.decode(value, StandardCharsets.UTF_8);
  }

  private static String headersMustBe(String name) {
    return name
        + " must be name=value pairs with commas between them, of characters that a header may have";
  }

  /** What is malformed is told and left out: a span without an attribute is better than no service. */
  private static String attributes(String text) {
    List<String> good = new ArrayList<>();
    int position = 0;
    for (String pair : text.split(",", -1)) {
      position++;
      int equals = pair.indexOf('=');
      if (equals > 0 && !pair.substring(0, equals).isBlank() && isDecodable(pair)) {
        good.add(pair.strip());
      } else if (!pair.isBlank()) {
        LOG.atWarn()
            .addKeyValue("position", position)
            .log("tracing: malformed pair in OTEL_RESOURCE_ATTRIBUTES ignored");
      }
    }
    return String.join(",", good);
  }

  private static boolean isDecodable(String pair) {
    for (int i = pair.indexOf('%'); i >= 0; i = pair.indexOf('%', i + 1)) {
      if (i + 2 >= pair.length()
          || Character.digit(pair.charAt(i + 1), 16) < 0
          || Character.digit(pair.charAt(i + 2), 16) < 0) {
        return false;
      }
    }
    return true;
  }

  private static String value(Map<String, String> environment, String name) {
    return Text.trim(environment.getOrDefault(name, ""));
  }

  /**
   * Returns what makes spans.
   *
   * @return the SDK, or one that makes no spans and passes the trace context on
   */
  public OpenTelemetry openTelemetry() {
    return openTelemetry;
  }

  /**
   * Exports what has ended and stops, within 5 s. What cannot be exported by then is lost. A second call does nothing.
   */
  @Override
  public void close() {
    sdk.filter(running -> closed.compareAndSet(false, true)).ifPresent(running -> {
      CompletableResultCode end = running.getSdkTracerProvider().shutdown();
      if (!end.join(FLUSH_SECONDS, TimeUnit.SECONDS).isSuccess()) {
        LOG.warn("tracing: not every span could be exported");
      }
    });
  }
}
