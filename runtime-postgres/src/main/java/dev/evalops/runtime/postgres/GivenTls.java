package dev.evalops.runtime.postgres;

import java.util.concurrent.Callable;
import javax.net.ssl.SSLContext;
import org.jspecify.annotations.Nullable;
import org.postgresql.ssl.WrappedFactory;

/**
 * Hands the context of a pool to the driver, which takes the name of a class alone, and makes one for each connection.
 */
final class GivenTls {
  private static final ThreadLocal<@Nullable SSLContext> CONNECTING = new ThreadLocal<>();

  private GivenTls() {}

  /** Calls what connects on this thread. */
  static <T> T with(SSLContext context, Callable<T> connect) throws Exception {
    CONNECTING.set(context);
    try {
      return connect.call();
    } finally {
      CONNECTING.remove();
    }
  }

  /** What the driver finds by its name. */
  public static final class Factory extends WrappedFactory {
    /** For the driver, while it connects. */
    public Factory() {
      SSLContext context = CONNECTING.get();
      if (context == null) {
        throw new IllegalStateException("no connection is being made");
      }
      factory = context.getSocketFactory();
    }
  }
}
