package dev.evalops.runtime.idempotency;

import java.util.Arrays;
import java.util.Map;
import java.util.Objects;

/**
 * The answer to a request, as it is kept and replayed.
 *
 * @param status 200 to 599
 * @param contentType the media type; empty if there is none
 * @param headers more headers by name, such as {@code ETag}
 * @param body the whole body; neither copied nor to be changed
 */
@SuppressWarnings("ArrayRecordComponent") // Compared by content below.
public record StoredResponse(
    int status, String contentType, Map<String, String> headers, byte[] body) {

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if the status is out of range
   */
  public StoredResponse {
    Objects.requireNonNull(contentType, "contentType");
    Objects.requireNonNull(body, "body");
    headers = Map.copyOf(headers);
    if (status < 200 || status > 599) {
      throw new IllegalArgumentException("status must be between 200 and 599: " + status);
    }
  }

  /**
   * Whether this is the outcome of the request. It is not if the server failed, or if the same request may fare better
   * soon, or with other credentials: 401, 403, 408, 413, 425, 429 and from 500 up.
   *
   * @return whether it is to be kept and replayed
   */
  public boolean isFinal() {
    return switch (status) {
      case 401, 403, 408, 413, 425, 429 -> false;
      default -> status < 500;
    };
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof StoredResponse that
        && status == that.status
        && contentType.equals(that.contentType)
        && headers.equals(that.headers)
        && Arrays.equals(body, that.body);
  }

  @Override
  public int hashCode() {
    return Objects.hash(status, contentType, headers, Arrays.hashCode(body));
  }

  /** Without headers and body, which may hold secrets. */
  @Override
  public String toString() {
    return "StoredResponse[status=" + status + ", contentType=" + contentType + ", body="
        + body.length + " bytes]";
  }
}
