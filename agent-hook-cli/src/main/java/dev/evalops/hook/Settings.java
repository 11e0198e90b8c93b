package dev.evalops.hook;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What the operator says: the managed file, and where that is silent the environment.
 *
 * @param token secret
 * @param tickets whether an approval that is late is kept for the next call; else a call waits for it
 * @param decisionLog the folder of the log of decisions; null for none
 * @param deadline for the whole call, from the start of the process on
 * @param ignoresEnvironment whether the managed file alone counts
 */
record Settings(
    ServiceUrl governance,
    @Nullable ServiceUrl approvals,
    String workspaceId,
    @Nullable String token,
    @Nullable String agentId,
    @Nullable String surface,
    boolean tickets,
    Duration approvalTimeout,
    Duration pollInterval,
    Duration governanceTimeout,
    Duration approvalsTimeout,
    Tls tls,
    Duration deadline,
    @Nullable Path decisionLog,
    boolean ignoresEnvironment) {
  static final String GOVERNANCE_URL = "EVALOPS_GOVERNANCE_URL";
  static final String APPROVALS_URL = "EVALOPS_APPROVALS_URL";
  static final String WORKSPACE_ID = "EVALOPS_WORKSPACE_ID";
  static final String AGENT_TOKEN = "EVALOPS_AGENT_TOKEN";
  static final String AGENT_ID = "EVALOPS_AGENT_ID";
  static final String HOOK_SURFACE = "EVALOPS_HOOK_SURFACE";
  static final String SURFACE = "EVALOPS_SURFACE";
  static final String APPROVAL_MODE = "EVALOPS_APPROVAL_MODE";
  static final String APPROVAL_TIMEOUT = "EVALOPS_APPROVAL_TIMEOUT";
  static final String APPROVAL_POLL_INTERVAL = "EVALOPS_APPROVAL_POLL_INTERVAL";
  static final String GOVERNANCE_TIMEOUT = "EVALOPS_GOVERNANCE_TIMEOUT";
  static final String APPROVALS_TIMEOUT = "EVALOPS_APPROVALS_TIMEOUT";
  static final String CA_FILE = "EVALOPS_CA_FILE";
  static final String CERT_FILE = "EVALOPS_CERT_FILE";
  static final String KEY_FILE = "EVALOPS_KEY_FILE";
  static final String SERVER_NAME = "EVALOPS_SERVER_NAME";
  static final String HOOK_DEADLINE = "EVALOPS_HOOK_DEADLINE";
  static final String ALLOW_INSECURE_HTTP = "EVALOPS_ALLOW_INSECURE_HTTP";

  static final String IGNORE_ENVIRONMENT = "EVALOPS_IGNORE_ENVIRONMENT";
  static final String DECISION_LOG = "EVALOPS_DECISION_LOG";

  /** In the managed file only: a repository could say anything in the environment, and make us write anywhere. */
  private static final List<String> MANAGED_ONLY = List.of(IGNORE_ENVIRONMENT, DECISION_LOG);

  /** Stands for what Java could not decode, so that it is no longer what the operator wrote. */
  private static final char UNREADABLE = '\ufffd';

  /** What decides whom we believe: a file that sets one of these sets them all. */
  private static final List<String> TRUST =
      List.of(GOVERNANCE_URL, APPROVALS_URL, CA_FILE, SERVER_NAME, ALLOW_INSECURE_HTTP);

  /** Two names of one setting: a file that sets one of these sets both. */
  private static final List<String> SURFACES = List.of(HOOK_SURFACE, SURFACE);

  private static final List<String> KEYS = List.of(
      GOVERNANCE_URL,
      APPROVALS_URL,
      WORKSPACE_ID,
      AGENT_TOKEN,
      AGENT_ID,
      HOOK_SURFACE,
      SURFACE,
      APPROVAL_MODE,
      APPROVAL_TIMEOUT,
      APPROVAL_POLL_INTERVAL,
      GOVERNANCE_TIMEOUT,
      APPROVALS_TIMEOUT,
      CA_FILE,
      CERT_FILE,
      KEY_FILE,
      SERVER_NAME,
      HOOK_DEADLINE,
      ALLOW_INSECURE_HTTP,
      IGNORE_ENVIRONMENT,
      DECISION_LOG);

  /** The hosts let the tool run after ten minutes, and the launcher ends us ten seconds before that. */
  static final Duration MAX_DEADLINE = Duration.ofSeconds(570);

  /** The files of the connection; each null when not set. */
  record Tls(
      @Nullable String ca,
      @Nullable String certificate,
      @Nullable String key,
      @Nullable String serverName) {
    /** Asked without the record's own equality, which alone would take longer than the call. */
    boolean isSet() {
      return ca != null || certificate != null || key != null || serverName != null;
    }
  }

  static Settings load(Map<String, String> environment, ManagedFile file) throws Denial {
    List<String> problems = new ArrayList<>();
    Map<String, String> managed = file.read(KEYS, problems);
    Reader reader = new Reader(effective(environment, managed, problems), problems);
    Settings settings = reader.settings();
    if (settings == null || !problems.isEmpty()) {
      throw Denial.failClosed("hook configuration error: " + String.join("; ", problems));
    }
    return settings;
  }

  /** Whether a service needs TLS. */
  boolean usesTls() {
    return governance.tls() || (approvals != null && approvals.tls());
  }

  /** The values in force, trimmed; blank ones are left out. */
  private static Map<String, String> effective(
      Map<String, String> environment, Map<String, String> managed, List<String> problems) {
    boolean ignoreEnvironment = bool(IGNORE_ENVIRONMENT, managed.get(IGNORE_ENVIRONMENT), problems);
    Map<String, String> effective = new HashMap<>();
    for (String key : KEYS) {
      String value = managed.get(key);
      if (value == null
          && !ignoreEnvironment
          && !MANAGED_ONLY.contains(key)
          && !(TRUST.contains(key) && setsOneOf(managed, TRUST))
          && !(SURFACES.contains(key) && setsOneOf(managed, SURFACES))) {
        value = environment.get(key);
      }
      if (value != null && value.indexOf(UNREADABLE) >= 0) {
        problems.add(key + " has characters that cannot be read in this locale");
      } else if (value != null && !GoText.trim(value).isEmpty()) {
        effective.put(key, GoText.trim(value));
      }
    }
    return effective;
  }

  private static boolean setsOneOf(Map<String, String> managed, List<String> keys) {
    for (String key : keys) {
      if (managed.containsKey(key)) {
        return true;
      }
    }
    return false;
  }

  private static boolean bool(String key, @Nullable String value, List<String> problems) {
    String trimmed = value == null ? "" : GoText.trim(value);
    if (!trimmed.isEmpty() && !trimmed.equals("true") && !trimmed.equals("false")) {
      problems.add(key + " must be true or false");
    }
    return trimmed.equals("true");
  }

  @Override
  public String toString() {
    return "Settings[" + workspaceId + "]"; // has a secret
  }

  /** Turns values into settings and gathers what is wrong with them. */
  private static final class Reader {
    private final Map<String, String> values;
    private final List<String> problems;

    Reader(Map<String, String> values, List<String> problems) {
      this.values = values;
      this.problems = problems;
    }

    @Nullable
    Settings settings() {
      boolean insecure = bool(ALLOW_INSECURE_HTTP, values.get(ALLOW_INSECURE_HTTP), problems);
      ServiceUrl governance = url(GOVERNANCE_URL, insecure);
      ServiceUrl approvals = url(APPROVALS_URL, insecure);
      String workspaceId = values.get(WORKSPACE_ID);
      if (!values.containsKey(GOVERNANCE_URL)) {
        problems.add(GOVERNANCE_URL + " is required");
      }
      if (workspaceId == null) {
        problems.add(WORKSPACE_ID + " is required");
      }
      boolean tickets = tickets();
      Duration approvalTimeout =
          duration(APPROVAL_TIMEOUT, tickets ? Duration.ofSeconds(15) : Duration.ofMinutes(5));
      Duration pollInterval = duration(APPROVAL_POLL_INTERVAL, Duration.ofSeconds(3));
      Duration governanceTimeout = duration(GOVERNANCE_TIMEOUT, Duration.ofSeconds(5));
      Duration approvalsTimeout = duration(APPROVALS_TIMEOUT, Duration.ofSeconds(5));
      Duration deadline = duration(HOOK_DEADLINE, MAX_DEADLINE);
      if (deadline.compareTo(MAX_DEADLINE) > 0) {
        problems.add(HOOK_DEADLINE + " must not be more than " + seconds(MAX_DEADLINE)
            + ", because the hosts let the tool run after 600 s");
      }
      String token = token();
      Path folder = folder(DECISION_LOG);
      if (governance == null || workspaceId == null || !problems.isEmpty()) {
        return null;
      }
      if (approvals != null) {
        fit(deadline, governanceTimeout, approvalsTimeout, approvalTimeout, tickets);
      } else {
        fit(deadline, governanceTimeout, GOVERNANCE_TIMEOUT);
      }
      return new Settings(
          governance,
          approvals,
          workspaceId,
          token,
          values.get(AGENT_ID),
          values.containsKey(HOOK_SURFACE) ? values.get(HOOK_SURFACE) : values.get(SURFACE),
          tickets,
          approvalTimeout,
          pollInterval,
          governanceTimeout,
          approvalsTimeout,
          new Tls(
              values.get(CA_FILE),
              values.get(CERT_FILE),
              values.get(KEY_FILE),
              values.get(SERVER_NAME)),
          deadline,
          folder,
          "true".equals(values.get(IGNORE_ENVIRONMENT)));
    }

    private @Nullable Path folder(String key) {
      String value = values.get(key);
      if (value != null && !value.startsWith("/")) {
        problems.add(key + " must be an absolute path");
        return null;
      }
      try {
        return value == null ? null : Path.of(value);
      } catch (InvalidPathException e) {
        problems.add(key + " is no path");
        return null;
      }
    }

    private @Nullable ServiceUrl url(String key, boolean insecure) {
      String value = values.get(key);
      if (value == null) {
        return null;
      }
      try {
        return ServiceUrl.parse(
            key.equals(GOVERNANCE_URL)
                ? ServiceUrl.governanceBase(value)
                : ServiceUrl.approvalsBase(value),
            insecure);
      } catch (IllegalArgumentException e) {
        problems.add(key + " " + e.getMessage());
        return null;
      }
    }

    /** Stands in a header, and so has no room for anything but visible ASCII characters. */
    private @Nullable String token() {
      String token = values.get(AGENT_TOKEN);
      for (int i = 0; token != null && i < token.length(); i++) {
        if (token.charAt(i) <= ' ' || token.charAt(i) > '~') {
          problems.add(AGENT_TOKEN + " has characters that a token cannot have");
          return null;
        }
      }
      return token;
    }

    private Duration duration(String key, Duration otherwise) {
      String value = values.get(key);
      if (value == null) {
        return otherwise;
      }
      try {
        Duration duration = GoText.duration(value);
        if (duration.isZero() || duration.isNegative()) {
          problems.add(key + " must be greater than zero");
        }
        return duration;
      } catch (IllegalArgumentException e) {
        problems.add(key + " " + e.getMessage());
        return otherwise;
      }
    }

    private boolean tickets() {
      String mode = values.get(APPROVAL_MODE);
      if (mode != null && !mode.equals("ticket") && !mode.equals("wait")) {
        problems.add(APPROVAL_MODE + " must be ticket or wait");
      }
      return !"wait".equals(mode);
    }

    private void fit(
        Duration deadline,
        Duration governanceTimeout,
        Duration approvalsTimeout,
        Duration approvalTimeout,
        boolean tickets) {
      // A ticket is used up in a call of its own.
      int calls = tickets ? 2 : 1;
      fit(
          deadline,
          governanceTimeout.plus(approvalsTimeout.multipliedBy(calls)).plus(approvalTimeout),
          GOVERNANCE_TIMEOUT + " + " + (tickets ? "2 x " : "") + APPROVALS_TIMEOUT + " + "
              + APPROVAL_TIMEOUT);
    }

    /** A call that outlives its deadline denies; a configuration that plans for that is a mistake. */
    private void fit(Duration deadline, Duration planned, String names) {
      if (planned.compareTo(deadline) > 0) {
        problems.add(
            names + " must not be more than " + HOOK_DEADLINE + " (" + seconds(deadline) + ")");
      }
    }

    private static String seconds(Duration duration) {
      return duration.toMillis() / 1000.0 + " s";
    }
  }
}
