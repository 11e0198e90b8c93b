package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.SQLExceptionOverride;
import java.sql.SQLException;
import org.jspecify.annotations.Nullable;

/**
 * Closes a connection whose server has become read-only or is going away, beside those that the pool closes by itself;
 * the next one finds the new primary. Not because of a statement that the server does not support, which may be caught.
 */
final class Eviction implements SQLExceptionOverride {
  @java.lang.Override
  public Override adjudicate(SQLException failure) {
    @Nullable String state = failure.getSQLState();
    if ("0A000".equals(state)) {
      return Override.DO_NOT_EVICT;
    }
    boolean gone = state != null
        && (state.startsWith("57P")
            || switch (state) {
              case "25006", "25P03", "25P04" ->
                true; // read-only; idle, or a transaction, for too long
              default -> false;
            });
    return gone ? Override.MUST_EVICT : Override.CONTINUE_EVICT;
  }
}
