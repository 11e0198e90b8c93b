package dev.evalops.runtime.mtls;

import dev.evalops.runtime.mtls.Policy.ClientAuth;
import dev.evalops.runtime.mtls.Policy.Side;
import java.net.http.HttpClient;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * TLS 1.3 for calls to other services, with certificates from PEM files.
 *
 * <pre>{@code
 * ClientTls tls = ClientTls.builder().ca(caFile).certificate(certFile, keyFile).open();
 * HttpClient http = tls.httpClient();
 * }</pre>
 *
 * <p>The files are checked every 10 seconds, by content. When they change, new connections use the new certificates;
 * open connections stay open, but for those of {@link #httpClient()}, and what takes the context as its {@code tls}:
 * Postgres, Redis and NATS of this library. Files that cannot be used (half written, a key of another certificate)
 * change nothing, and are reported once. No session from before a change is resumed after it, and none after an hour.
 *
 * <p>Thread-safe. {@link #close()} only stops the checks.
 */
public final class ClientTls extends Tls {
  private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(5);

  private ClientTls(TlsBuilder.Opened opened) {
    super(opened);
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
   * Returns an HTTP client with this context: connect timeout 5 seconds, no redirects, HTTP/2 where the server has it.
   * The time for an answer is set on each request. From the first request after a change of the files on it makes new
   * connections; those from before are closed when their requests have ended (on Java 17, once they were idle long
   * enough). For other settings give {@link #sslContext()} and {@link #sslParameters()} to {@link
   * HttpClient#newBuilder()}.
   *
   * @return a new client at each call; keep it, it has a thread and a pool
   */
  public HttpClient httpClient() {
    return new RenewingHttpClient(
        () -> current().context(),
        () -> HttpClient.newBuilder()
            .sslContext(sslContext())
            .sslParameters(sslParameters())
            .connectTimeout(CONNECT_TIMEOUT)
            .build());
  }

  /**
   * Builds a client. A value that is blank or null counts as not set, so that values can come straight from the
   * environment. Not thread-safe.
   */
  public static final class Builder extends TlsBuilder<Builder> {
    private @Nullable String serverName;
    private boolean publicRoots;

    private Builder() {}

    @Override
    Builder self() {
      return this;
    }

    /**
     * Sets the authorities that issue the servers' certificates; no others are trusted.
     *
     * @param file PEM, one or more certificates
     * @return this
     */
    public Builder ca(@Nullable Path file) {
      ca = unblank(file);
      return this;
    }

    /**
     * Sets the authorities that issue the servers' certificates; no others are trusted.
     *
     * @param file PEM, one or more certificates
     * @return this
     */
    public Builder ca(@Nullable String file) {
      ca = unblank(file);
      return this;
    }

    /**
     * Trusts the JDK's public roots when no CA is set, instead of refusing to open: for servers on the open internet.
     *
     * @return this
     */
    public Builder publicRoots() {
      publicRoots = true;
      return this;
    }

    /**
     * Sets the name that the server's certificate must have, instead of the host of the URL. It is also sent as SNI,
     * which knows neither IP addresses nor, in Java, names with an underscore.
     *
     * @param name DNS name or IP address, without a port; blank or null: the host of the URL
     * @return this
     */
    public Builder serverName(@Nullable String name) {
      serverName = unblank(name);
      return this;
    }

    @Override
    public boolean isConfigured() {
      return super.isConfigured() || serverName != null;
    }

    @Override
    Policy check(List<String> problems) {
      if (certificate == null && key != null) {
        problems.add("tls_cert_file_required");
      }
      if (key == null && certificate != null) {
        problems.add("tls_key_file_required");
      }
      if (ca == null && !publicRoots) {
        problems.add("tls_ca_file_required (or publicRoots(), to trust every public authority)");
      }
      String name = null;
      if (serverName != null) {
        try {
          name = ServerName.normalise(serverName);
        } catch (IllegalArgumentException e) {
          problems.add("tls_server_name_invalid: " + serverName);
        }
      }
      return new Policy(Side.CLIENT, name, ClientAuth.NONE);
    }

    /**
     * Returns the certificates, read from the files, which are checked from now on.
     *
     * @return the certificates, ready for use
     * @throws IllegalArgumentException with every problem, if something is missing or a file cannot be used
     */
    public ClientTls open() {
      return new ClientTls(read());
    }
  }
}
