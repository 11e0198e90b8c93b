package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.TestService.Answer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Execution(ExecutionMode.CONCURRENT)
class TicketTest {
  private static final String EVENT =
      "{\"session_id\":\"s-1\",\"cwd\":\"/w\",\"tool_name\":\"Bash\","
          + "\"tool_input\":{\"command\":\"make\",\"description\":\"Build it\"},\"tool_use_id\":\"t-1\"}";
  private static final String ASKED =
      "denied: approval %s requested, valid until \\d\\d:\\d\\d [+-]\\d\\d:\\d\\d; ask the user "
          + "to approve it, then repeat exactly this call";

  @TempDir
  private Path work;

  private Path folder;
  private TestService service;
  private Approvers approvers;

  @BeforeEach
  void start() throws IOException {
    service = new TestService();
    approvers = new Approvers(service);
    folder = work.resolve("state/tickets");
  }

  @AfterEach
  void stop() {
    service.close();
  }

  /** Asks, and waits for no approver. */
  private Call call() {
    return new Call(service.url())
        .with("EVALOPS_APPROVALS_URL", service.url())
        .with("EVALOPS_APPROVAL_TIMEOUT", "20ms")
        .tickets(folder)
        .event(EVENT);
  }

  private Call patientCall() {
    return call().with("EVALOPS_APPROVAL_TIMEOUT", "30s");
  }

  private void assertAsked(String id) {
    assertThat(call().reason()).matches(ASKED.formatted(id));
  }

  private List<Path> files(Predicate<String> name) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.filter(file -> name.test(file.getFileName().toString())).toList();
    }
  }

  private Path ticket() throws IOException {
    List<Path> tickets = files(name -> !name.startsWith("spent-"));
    assertThat(tickets).hasSize(1);
    return tickets.get(0);
  }

  @Test
  void asksOnce_andAllowsOnce_whenTheCallIsRepeated() throws Exception {
    assertAsked("ap-1");
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(service.requests(GovernanceCheck.EVALUATE)).hasSize(3);
    assertAsked("ap-2");
    assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(folder)))
        .isEqualTo("rwx------");
    assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(ticket())))
        .isEqualTo("rw-------");
  }

  @Test
  void allowsAtOnce_whenTheApprovalComesAtOnce() {
    approvers.decide("*", "AUTO_APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(approvers.requested()).isEqualTo(2);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"command\":\"make\" | \"command\":\"make\" ",
        "Build it | Build everything",
        ",\"description\":\"Build it\" | ''",
        "t-1 | t-2",
      })
  void findsTheTicketOfTheSameCall(String text, String other) {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    assertThat(patientCall().event(EVENT.replace(text, other)).verdict()).isSameAs(Verdict.ALLOW);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "make | make install",
        "make\" | make \"",
        "\"command\" | \"timeout\":1,\"command\"",
        "\"/w\" | \"/w/x\"",
        "\"cwd\":\"/w\", | ''",
        "s-1 | s-2",
        "\"Bash\" | \"PowerShell\"",
        "\"session_id\" | \"surface\":\"cli\",\"session_id\"",
      })
  void asksAnew_forAnyOtherCall(String text, String other) {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    assertThat(EVENT).contains(text);
    assertThat(call().event(EVENT.replace(text, other)).reason()).matches(ASKED.formatted("ap-2"));
  }

  @Test
  void asksAnew_forAnotherUserOrWorkspace() {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    assertThat(call().tickets(folder, "bob").reason()).matches(ASKED.formatted("ap-2"));
    assertThat(call().with("EVALOPS_WORKSPACE_ID", "w-2").reason())
        .matches(ASKED.formatted("ap-3"));
  }

  @Test
  void keepsTheDescriptionOfEveryOtherTool() {
    String event = EVENT.replace("Bash", "Task");
    assertThat(call().event(event).reason()).matches(ASKED.formatted("ap-1"));
    assertThat(call().event(event.replace("Build it", "Build")).reason())
        .matches(ASKED.formatted("ap-2"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"DENIED", "EXPIRED", "ESCALATED"})
  void saysWhyItWasRefused_andAsksAnewTheNextTime(String decision) {
    assertAsked("ap-1");
    approvers.decide("ap-1", decision);
    assertThat(patientCall().reason())
        .isEqualTo("denied: approval " + decision.toLowerCase(Locale.ROOT) + ": by ann");
    assertAsked("ap-2");
  }

  @Test
  void deniesWhatThePolicyDeniesByNow() {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    service.evaluate("{\"evaluation\":{\"decision\":2,\"reasons\":[\"freeze\"]}}");
    assertThat(patientCall().reason()).isEqualTo("denied: freeze");
  }

  @ParameterizedTest
  @CsvSource({
    "workspaceId, w-2",
    "agentId, s-2",
    "surface, cli",
    "actionType, Write",
    "actionPayload, e30=",
    "actionPayload, ?",
    "actionPayload, ''",
  })
  void deniesWhenAnotherCallWasApproved(String member, String value) {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    approvers.forge("ap-1", member, value);
    assertThat(patientCall().reason())
        .isEqualTo("blocked (fail closed): approval ap-1 is not for this call");
    assertAsked("ap-2");
  }

  @Test
  void deniesWhenTheServiceDoesNotSayWhatWasApproved() {
    assertAsked("ap-1");
    service.on(
        Approval.GET,
        question -> Answer.json(
            "{\"state\":\"resolved\",\"decisions\":[{\"approvalRequestId\":\"ap-1\",\"decision\":1}]}"));
    assertThat(patientCall().reason())
        .isEqualTo("blocked (fail closed): approval ap-1 is not for this call");
  }

  @ParameterizedTest
  @ValueSource(longs = {-16, 16})
  void asksAnew_whenTheTicketIsOldOrFromTheFuture(long minutes) throws Exception {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    age(ticket(), Duration.ofMinutes(minutes));
    assertAsked("ap-2");
  }

  @Test
  void allows_whenTheTicketIsNearlyOld() throws Exception {
    assertAsked("ap-1");
    approvers.decide("ap-1", "APPROVED");
    age(ticket(), Duration.ofMinutes(-14));
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
  }

  private static void age(Path file, Duration age) throws IOException {
    Files.setLastModifiedTime(file, FileTime.from(Instant.now().plus(age)));
  }

  @Test
  void asksAnew_whenACallHasDiedWhileItAsked() throws Exception {
    assertAsked("ap-1");
    Files.writeString(ticket(), "ap-");
    assertThat(call().reason()).contains("is being requested by another call");
    assertThat(approvers.requested()).isEqualTo(1);
    age(ticket(), Duration.ofMinutes(-1));
    assertAsked("ap-2");
  }

  @Test
  void leavesNoTicket_whenTheRequestFails() throws Exception {
    service.on(Approval.REQUEST, question -> new Answer(500, "text/plain", "x"));
    assertThat(call().reason())
        .isEqualTo("blocked (fail closed): approval request failed: HTTP status 500");
    assertThat(files(name -> true)).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(strings = {"a\\nb", "a\\u0000", "0123456789012345678901234567890123456789"})
  void deniesAnIdThatCannotBeKept(String id) {
    String whole = id.startsWith("0") ? id.repeat(6) : id;
    service.on(
        Approval.REQUEST,
        question -> Answer.json("{\"approvalRequest\":{\"id\":\"" + whole + "\"}}"));
    assertThat(call().reason()).endsWith("the approval id cannot be used");
  }

  @Test
  void neverUsesAnApprovalTwice_whenItsTicketComesBack() throws Exception {
    assertAsked("ap-1");
    byte[] ticket = Files.readAllBytes(ticket());
    Path file = ticket();
    approvers.decide("ap-1", "APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    Files.write(file, ticket);
    approvers.decide("ap-2", "DENIED");
    assertThat(patientCall().reason()).isEqualTo("denied: approval denied: by ann");
    assertThat(approvers.requested()).isEqualTo(2);
  }

  /** As one that makes no second request of the same. */
  @Test
  void deniesAtOnce_whenTheServiceGivesTheUsedApprovalAgain() throws Exception {
    approvers.decide("*", "APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    service.on(
        Approval.REQUEST, question -> Answer.json("{\"approvalRequest\":{\"id\":\"ap-1\"}}"));
    for (int i = 0; i < 2; i++) {
      assertThat(patientCall().with("EVALOPS_APPROVAL_TIMEOUT", "2s").reason())
          .isEqualTo(
              "blocked (fail closed): approval ap-1 is used, and the service gives no other");
    }
    assertThat(service.requests(Approval.REQUEST)).hasSize(5);
    assertThat(files(name -> !name.startsWith("spent-"))).isEmpty();
  }

  @Test
  void allowsOneOfManyAtOnce() throws Exception {
    assertAsked("ap-1");
    approvers.decide("*", "DENIED");
    approvers.decide("ap-1", "APPROVED");
    assertThat(reasons(16, patientCall()))
        .filteredOn(reason -> !reason.equals("denied: approval denied: by ann"))
        .containsExactly("allowed");
  }

  @Test
  void asksOnceForManyAtOnce() throws Exception {
    assertThat(reasons(16, call().with("EVALOPS_APPROVAL_TIMEOUT", "500ms")))
        .allMatch(reason -> reason.matches(ASKED.formatted("ap-1"))
            || reason.contains("is being requested by another call"));
    assertThat(approvers.requested()).isEqualTo(1);
  }

  @Test
  void asksOnceForManyAtOnce_whenTheTicketIsOld() throws Exception {
    assertAsked("ap-1");
    age(ticket(), Duration.ofMinutes(-16));
    assertThat(reasons(16, call().with("EVALOPS_APPROVAL_TIMEOUT", "500ms")))
        .allMatch(reason -> reason.matches(ASKED.formatted("ap-2"))
            || reason.contains("is being requested by another call"));
    assertThat(approvers.requested()).isEqualTo(2);
  }

  private static List<String> reasons(int count, Call call) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(count);
    try {
      List<Callable<String>> calls = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        calls.add(call::reason);
      }
      List<String> reasons = new ArrayList<>();
      for (Future<String> reason : threads.invokeAll(calls)) {
        reasons.add(reason.get());
      }
      return reasons;
    } finally {
      threads.shutdownNow();
    }
  }

  @Test
  void tellsTheServiceThatTheApprovalIsUsed_ifItWantsToKnow() throws Exception {
    service.on(Approval.CONSUME, "{}");
    assertAsked("ap-1");
    String digest = ticket().getFileName().toString();
    approvers.decide("ap-1", "APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(service.requests(Approval.CONSUME)).hasSize(1);
    assertThat(service.requests(Approval.CONSUME).get(0).body())
        .isEqualTo(Vectors.JSON.readTree(
            "{\"approvalRequestId\":\"ap-1\",\"workspaceId\":\"w-1\",\"digest\":\"" + digest
                + "\"}"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "404 | text/plain | 404 page not found | allowed",
        "404 | application/json | {\"error\":{\"code\":\"not_found\"}} | allowed",
        "404 | application/json | {\"code\":\"unimplemented\"} | allowed",
        "501 | application/json | {\"code\":\"unimplemented\"} | allowed",
        "404 | application/json | {\"code\":\"not_found\"} | HTTP status 404",
        "409 | application/json | {\"code\":\"already_exists\"} | HTTP status 409",
        "400 | application/json | {\"code\":\"failed_precondition\"} | HTTP status 400",
        "503 | text/plain | x | HTTP status 503",
      })
  void deniesWhenTheServiceSaysThatItIsUsed(int status, String type, String body, String end) {
    approvers.decide("*", "APPROVED");
    service.on(Approval.CONSUME, question -> new Answer(status, type, body));
    assertThat(patientCall().reason())
        .isEqualTo(
            end.equals("allowed")
                ? end
                : "blocked (fail closed): approval ap-1 cannot be used: " + end);
  }

  @Test
  void deniesWithoutAsking_whenItsFolderCannotBeUsed() throws Exception {
    Files.createDirectories(folder);
    Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxrwxrwx"));
    assertThat(call().reason())
        .isEqualTo("blocked (fail closed): the approval tickets in " + folder
            + " can be changed by others");
    Files.delete(folder);
    Files.write(folder, "x".getBytes(StandardCharsets.UTF_8));
    assertThat(call().reason())
        .startsWith("blocked (fail closed): the approval tickets in " + folder + " cannot be used");
    assertThat(approvers.requested()).isZero();
  }

  @Test
  void deletesWhatIsADayOld() throws Exception {
    approvers.decide("*", "APPROVED");
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    Path spent = files(name -> name.startsWith("spent-")).get(0);
    age(spent, Duration.ofHours(-25));
    assertThat(patientCall().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(spent).doesNotExist();
  }

  @Test
  void wantsAPayloadThatIsTheSame_notOneThatLooksLikeIt() throws Exception {
    byte[] input = "{\"command\":\"make\"}".getBytes(StandardCharsets.UTF_8);
    assertThat(ToolUse.exactInput("Bash", input))
        .isEqualTo(ToolUse.exactInput(
            "Bash",
            "{ \"description\": \"x\", \"command\" : \"make\" }".getBytes(StandardCharsets.UTF_8)))
        .isNotEqualTo(ToolUse.exactInput(
            "Bash", "{\"command\":\"mak\\u0065\"}".getBytes(StandardCharsets.UTF_8)));
    assertThat(Base64.getEncoder().encodeToString(ToolUse.exactInput("Read", input)))
        .isEqualTo(Base64.getEncoder().encodeToString(input));
  }
}
