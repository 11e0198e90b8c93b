package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.mtls.ClientTls;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

/** What the modules say arrives in the service's own log, be it through SLF4J or through {@link System.Logger}. */
class LogTest {
  private final ListAppender<ILoggingEvent> log = new ListAppender<>();
  private final Logger root = (Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);

  @BeforeEach
  void listen() {
    log.start();
    root.addAppender(log);
  }

  @AfterEach
  void stopListening() {
    root.detachAppender(log);
  }

  @Test
  void hasTheLinesOfMtls(@TempDir Path folder) throws Exception {
    Certificates certificates = new Certificates(folder);
    try (ClientTls tls = ClientTls.builder()
        .ca(certificates.caFile())
        .certificate(certificates.certificateFile(), certificates.keyFile())
        .reloadEvery(Duration.ZERO)
        .open()) {
      Files.delete(certificates.keyFile());
      tls.reload();
      assertLogged("dev.evalops.runtime.mtls", Level.WARN, "certificate reload failed");
      certificates.renew();
      tls.reload();
      assertLogged("dev.evalops.runtime.mtls", Level.INFO, "certificates reloaded");
    }
  }

  @Test
  void hasTheLinesOfIdentity() {
    try (IdentityServer server = IdentityServer.start().person("token", "ada", "org-1");
        IdentityClient identity = IdentityClient.builder(server.url().toString())
            .fallbackFor(Duration.ofMinutes(1))
            .open()) {
      identity.introspect("token");
      server.close();
      identity.introspect("token");
      assertLogged(
          "dev.evalops.runtime.identity",
          Level.WARN,
          "identity: service unavailable; using cached");
    }
  }

  private void assertLogged(String logger, Level level, String begin) {
    assertThat(log.list)
        .anyMatch(event -> event.getLoggerName().startsWith(logger)
            && event.getLevel() == level
            && event.getFormattedMessage().startsWith(begin));
  }
}
