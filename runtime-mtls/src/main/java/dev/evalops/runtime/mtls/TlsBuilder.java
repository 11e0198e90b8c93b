package dev.evalops.runtime.mtls;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.mtls.PemFiles.UnusableException;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * What the builders of a client and of a server have in common. A file that is blank or null counts as not set, so that
 * values can come straight from the environment; half a configuration is an error, never plain text.
 *
 * @param <B> the builder itself
 */
abstract sealed class TlsBuilder<B extends TlsBuilder<B>>
    permits ClientTls.Builder, ServerTls.Builder {
  @Nullable
  String ca;

  @Nullable
  String certificate;

  @Nullable
  String key;

  private Duration reloadEvery = Duration.ofSeconds(10);
  private @Nullable Consumer<? super CertificateReload> listener;
  private @Nullable MeterRegistry registry;

  TlsBuilder() {}

  /** The settings, and the first state of the files. */
  record Opened(
      PemFiles files,
      Material material,
      Duration reloadEvery,
      @Nullable Consumer<? super CertificateReload> listener,
      @Nullable MeterRegistry registry) {}

  abstract B self();

  /** Adds what is missing or contradicts itself. */
  abstract Policy check(List<String> problems);

  static @Nullable String unblank(@Nullable String value) {
    return value == null || Text.isBlank(value) ? null : Text.trim(value);
  }

  static @Nullable String unblank(@Nullable Path file) {
    return file == null ? null : unblank(file.toString());
  }

  /**
   * Sets our certificate and its private key: PEM, RSA, EC or Ed25519, in PKCS#8, PKCS#1 or SEC1, not encrypted.
   *
   * @param certificateFile the leaf first, then its intermediates
   * @param keyFile may be the same file
   * @return this
   */
  public B certificate(@Nullable Path certificateFile, @Nullable Path keyFile) {
    certificate = unblank(certificateFile);
    key = unblank(keyFile);
    return self();
  }

  /**
   * Sets our certificate and its private key: PEM, RSA, EC or Ed25519, in PKCS#8, PKCS#1 or SEC1, not encrypted.
   *
   * @param certificateFile the leaf first, then its intermediates
   * @param keyFile may be the same file
   * @return this
   */
  public B certificate(@Nullable String certificateFile, @Nullable String keyFile) {
    certificate = unblank(certificateFile);
    key = unblank(keyFile);
    return self();
  }

  /**
   * Sets how often the files are checked, on a daemon thread named {@code mtls-reload}; 10 seconds by default.
   *
   * @param interval zero starts no thread: then only {@code reload()} checks
   * @return this
   */
  public B reloadEvery(Duration interval) {
    reloadEvery = requireNonNull(interval, "reloadEvery");
    return self();
  }

  /**
   * Sets a listener to every change of the files. It is called on the thread that saw the change: once for a new state,
   * and once for a problem however long it lasts. Without it, both are logged to the {@link System.Logger} {@code
   * dev.evalops.runtime.mtls}.
   *
   * @param newListener called one at a time
   * @return this
   */
  public B onReload(Consumer<? super CertificateReload> newListener) {
    listener = requireNonNull(newListener, "onReload");
    return self();
  }

  /**
   * Registers the gauge {@code tls_certificate_expiry_seconds}, the time until our certificate expires, negative when
   * it has, with the tags {@code side} ({@code client} or {@code server}) and {@code certificate} (the file), until
   * this is closed (default: nothing). Without a certificate there is none. Two of one side with the same file share
   * it, and the first that is closed takes it away: let one of them have it.
   *
   * @param newRegistry gets the gauge
   * @return this
   */
  public B metrics(MeterRegistry newRegistry) {
    registry = requireNonNull(newRegistry, "registry");
    return self();
  }

  /**
   * Whether any file or server name is set, for TLS that is optional: {@code open()} refuses half a configuration.
   *
   * @return false if everything that comes from outside is blank or null
   */
  public boolean isConfigured() {
    return ca != null || certificate != null || key != null;
  }

  /**
   * Checks the settings and reads the files.
   *
   * @throws IllegalArgumentException with every problem, if something is missing or a file cannot be used
   */
  Opened read() {
    List<String> problems = new ArrayList<>();
    if (reloadEvery.isNegative()) {
      problems.add("reloadEvery must be zero or more: " + reloadEvery);
    }
    Policy policy = check(problems);
    try {
      // What is there is read although something is missing, to report all in one.
      String usableCertificate = key == null ? null : certificate;
      String usableKey = certificate == null ? null : key;
      PemFiles files = new PemFiles(policy, ca, usableCertificate, usableKey);
      Material material = files.load(null);
      if (problems.isEmpty()) {
        return new Opened(files, material, reloadEvery, listener, registry);
      }
    } catch (UnusableException e) {
      problems.add(e.getMessage());
    }
    throw new IllegalArgumentException(String.join("; ", problems));
  }
}
