package dev.evalops.runtime.mtls;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.mtls.Policy.ClientAuth;
import dev.evalops.runtime.mtls.Policy.Side;
import java.io.IOException;
import java.nio.file.Path;
import java.security.cert.Certificate;
import java.util.List;
import javax.net.ssl.SSLSession;
import org.jspecify.annotations.Nullable;

/**
 * TLS 1.3 for a server, with certificates from PEM files.
 *
 * <pre>{@code
 * ServerTls tls = ServerTls.builder().certificate(certFile, keyFile).requireClients(caFile).open();
 * SSLContext context = tls.sslContext();
 * }</pre>
 *
 * <p>The files are checked every 10 seconds, by content. When they change, new connections use the new certificates;
 * open connections stay open, unless {@link #filter()} ends them. Files that cannot be used (half written, a key of
 * another certificate) change nothing, and are reported once. No session from before a change is resumed after it, and
 * none after an hour.
 *
 * <p>Thread-safe. {@link #close()} only stops the checks.
 */
public final class ServerTls extends Tls {
  private ServerTls(TlsBuilder.Opened opened) {
    super(opened);
  }

  /**
   * Returns a filter that has connections from before the last change of the files closed after their next response
   * ({@code Connection: close}), so that their clients make new ones. One that is idle ends by the server's own time
   * limit. In a servlet container, which does not tell how old a connection is, it does nothing.
   *
   * @return the filter; thread-safe
   */
  public Filter filter() {
    return new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        if (exchange instanceof HttpsExchange secure
            && secure.getSSLSession() != null
            && isOld(secure.getSSLSession())) {
          exchange.getResponseHeaders().set("Connection", "close");
        }
        chain.doFilter(exchange);
      }

      @Override
      public String description() {
        return "closes connections with replaced certificates";
      }
    };
  }

  /** Made before the change; or during it, and with the certificate from before. */
  private boolean isOld(SSLSession session) {
    try {
      Certificate[] ours = session.getLocalCertificates();
      CertifiedKey pair = current().pair();
      return session.getCreationTime() <= changedAt()
          || (ours != null && pair != null && !ours[0].equals(pair.leaf()));
    } catch (UnsupportedOperationException notKnown) {
      return false;
    }
  }

  /**
   * Returns a builder.
   *
   * @return a builder with the defaults
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Builds a server. A value that is blank or null counts as not set, so that values can come straight from the
   * environment. Not thread-safe.
   */
  public static final class Builder extends TlsBuilder<Builder> {
    private ClientAuth clientAuth = ClientAuth.NONE;
    private boolean contradicted;

    private Builder() {}

    @Override
    Builder self() {
      return this;
    }

    /**
     * Requires a certificate of these authorities from every client: no other can connect.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public Builder requireClients(@Nullable Path caFile) {
      return clients(ClientAuth.REQUIRED, unblank(caFile));
    }

    /**
     * Requires a certificate of these authorities from every client: no other can connect.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public Builder requireClients(@Nullable String caFile) {
      return clients(ClientAuth.REQUIRED, unblank(caFile));
    }

    /**
     * Asks every client for a certificate of these authorities. A client may come without one, but not with one of
     * others. Handlers that need one say so with {@link MtlsFilters}.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public Builder wantClients(@Nullable Path caFile) {
      return clients(ClientAuth.WANTED, unblank(caFile));
    }

    /**
     * Asks every client for a certificate of these authorities. A client may come without one, but not with one of
     * others. Handlers that need one say so with {@link MtlsFilters}.
     *
     * @param caFile PEM, one or more certificates
     * @return this
     */
    public Builder wantClients(@Nullable String caFile) {
      return clients(ClientAuth.WANTED, unblank(caFile));
    }

    private Builder clients(ClientAuth mode, @Nullable String caFile) {
      contradicted |= clientAuth != ClientAuth.NONE && clientAuth != mode;
      clientAuth = mode;
      ca = caFile;
      return this;
    }

    @Override
    Policy check(List<String> problems) {
      if (contradicted) {
        problems.add("requireClients and wantClients must not both be set");
      }
      if (certificate == null || key == null) {
        problems.add("tls_cert_and_key_must_both_be_set");
      }
      if (clientAuth != ClientAuth.NONE && ca == null) {
        problems.add("tls_client_ca_file_required");
      }
      return new Policy(Side.SERVER, null, clientAuth);
    }

    /**
     * Returns the certificates, read from the files, which are checked from now on.
     *
     * @return the certificates, ready for use
     * @throws IllegalArgumentException with every problem, if something is missing or a file cannot be used
     */
    public ServerTls open() {
      return new ServerTls(read());
    }
  }
}
