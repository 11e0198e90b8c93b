package dev.evalops.hook;

import static java.util.Objects.requireNonNull;

import dev.evalops.hook.HttpExchange.FailedException;
import dev.evalops.runtime.mtls.ClientTls;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** The check's configuration and its services, for a doctor that looks whether they work. It allows nothing. */
public final class Probe {
  /** The managed file of a machine, unless the installation names another. */
  public static final Path MANAGED_FILE = ManagedFile.DEFAULT;

  private final Settings settings;
  private @Nullable ClientTls mtls;

  private Probe(Settings settings) {
    this.settings = settings;
  }

  /**
   * Reads the configuration as a call does.
   *
   * @param environment of the call
   * @param file the managed file that the installation names
   * @param program the jar, whose owner may own that file
   * @return the configuration
   * @throws IllegalArgumentException if calls are denied because of it, with their reason
   */
  public static Probe load(Map<String, String> environment, Optional<Path> file, Path program) {
    ManagedFile managed =
        file.map(named -> ManagedFile.named(named, program)).orElseGet(ManagedFile::usual);
    try {
      return new Probe(Settings.load(environment, managed));
    } catch (Denial e) {
      throw new IllegalArgumentException(e.reason(), e);
    }
  }

  /**
   * Returns the workspace that asks.
   *
   * @return its id
   */
  public String workspaceId() {
    return settings.workspaceId();
  }

  /**
   * Returns host and port of the governance service.
   *
   * @return for example {@code governance:443}
   */
  public String governance() {
    return settings.governance().authority();
  }

  /**
   * Returns host and port of the approval service.
   *
   * @return empty if there is none
   */
  public Optional<String> approvals() {
    return Optional.ofNullable(settings.approvals()).map(ServiceUrl::authority);
  }

  /**
   * Returns the file of the client certificate.
   *
   * @return empty if there is none
   */
  public Optional<String> certificate() {
    return Optional.ofNullable(settings.tls().certificate());
  }

  /**
   * Returns the folder of the log of decisions.
   *
   * @return empty if there is none
   */
  public Optional<Path> decisionLog() {
    return Optional.ofNullable(settings.decisionLog());
  }

  /**
   * Returns whether the environment of a call sets nothing.
   *
   * @return what the managed file says
   */
  public boolean ignoresEnvironment() {
    return settings.ignoresEnvironment();
  }

  /**
   * Reads the certificates, which comes before the questions.
   *
   * @return when the client certificate ends
   * @throws IllegalArgumentException if calls are denied because of them, with their reason
   */
  public Optional<Instant> readCertificates() {
    try {
      mtls = GovernanceCheck.mtls(settings, Duration.ZERO);
    } catch (Denial e) {
      throw new IllegalArgumentException(e.reason(), e);
    }
    return mtls == null ? Optional.empty() : mtls.notAfter();
  }

  /**
   * Asks whether a tool may run. An approval that the policy wants is not requested, for somebody would have to look at
   * it.
   *
   * @param tool the name of the tool
   * @return whether the answer is a "no" of the policy
   * @throws IOException if there is no answer
   */
  public boolean isDenied(String tool) throws IOException {
    StringBuilder question = new StringBuilder("{\"workspaceId\":");
    Json.quote(settings.workspaceId(), question);
    question.append(",\"agentId\":");
    Json.quote(settings.agentId() == null ? "doctor" : settings.agentId(), question);
    question.append(",\"actionType\":");
    Json.quote(tool, question);
    question.append(",\"actionPayload\":\"e30=\"}");
    try {
      Map<?, ?> answer = service(settings.governance())
          .call(GovernanceCheck.EVALUATE, question, settings.governanceTimeout());
      return Json.get(answer, "evaluation") instanceof Map<?, ?> evaluation
          && Enums.name(evaluation.get("decision"), GovernanceCheck.DECISIONS)
              .equals("ACTION_DECISION_DENY");
    } catch (FailedException | Denial e) {
      throw new IOException(e.getMessage(), e);
    }
  }

  /**
   * Asks for an approval that is not there.
   *
   * @param id the id to ask for
   * @throws IOException if the service cannot be reached, or does not know us
   */
  public void askApprovals(String id) throws IOException {
    ServiceUrl url = settings.approvals();
    if (url == null) {
      return;
    }
    StringBuilder question = new StringBuilder("{\"approvalRequestId\":");
    Json.quote(id, question);
    question.append(",\"workspaceId\":");
    Json.quote(settings.workspaceId(), question);
    try {
      service(url).call(Approval.GET, question.append('}'), settings.approvalsTimeout());
    } catch (Denial e) {
      throw new IOException(e.getMessage(), e);
    } catch (FailedException e) {
      // That it says in its own words that there is no such approval is enough.
      String message = String.valueOf(e.getMessage());
      if (!message.startsWith("HTTP status ")
          || message.endsWith(" 401")
          || message.endsWith(" 403")) {
        throw new IOException(message, e);
      }
    }
  }

  private Service service(ServiceUrl url) {
    return new Service(
        url,
        null,
        () ->
            requireNonNull(mtls, "the certificates are read first").sslContext().getSocketFactory(),
        settings.token());
  }
}
