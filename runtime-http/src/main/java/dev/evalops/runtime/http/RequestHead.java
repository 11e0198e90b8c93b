package dev.evalops.runtime.http;

import com.sun.net.httpserver.Headers;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The header fields that every request is judged by, found in one pass: a look-up in {@link Headers} makes the name
 * again each time.
 */
final class RequestHead {
  private boolean legal = true;
  private @Nullable List<String> hosts;
  private @Nullable List<String> lengths;
  private @Nullable List<String> encodings;
  private @Nullable List<String> options;
  private final long declaredLength;

  RequestHead(Headers headers) {
    for (Map.Entry<String, List<String>> header : headers.entrySet()) {
      String name = header.getKey();
      List<String> values = header.getValue();
      legal &= RequestRules.isHeader(name, values);
      switch (name) { // as Headers writes them
        case "Host" -> hosts = values;
        case "Content-length" -> lengths = values;
        case "Transfer-encoding" -> encodings = values;
        case "Connection" -> options = values;
        default -> {}
      }
    }
    declaredLength =
        lengths == null || lengths.isEmpty() ? -1 : RequestRules.contentLength(lengths.get(0));
  }

  /** Whether names and values have no illegal character. */
  boolean isLegal() {
    return legal;
  }

  @Nullable
  List<String> hosts() {
    return hosts;
  }

  @Nullable
  List<String> lengths() {
    return lengths;
  }

  @Nullable
  List<String> encodings() {
    return encodings;
  }

  boolean isChunked() {
    return encodings != null;
  }

  /** The announced length of the body in bytes, or -1 if there is none. */
  long declaredLength() {
    return declaredLength;
  }

  /** Whether the client says that it sends no other request on this connection. */
  boolean isLast() {
    return options != null && RequestRules.hasOption(options, "close");
  }
}
