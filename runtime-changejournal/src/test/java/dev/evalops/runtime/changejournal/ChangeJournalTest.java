package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.annotation.JsonRawValue;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.StringNode;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class ChangeJournalTest {
  private static final JsonMapper JSON = JsonMapper.shared();

  record Note(UUID id, String text, long version) {}

  record Draft(String text, @Nullable Long version) {}

  record Circle(List<Object> items) {}

  private static Map<String, @Nullable String> one(Connection tx, String table)
      throws SQLException {
    List<Map<String, @Nullable String>> rows = Rows.of(tx, "SELECT * FROM " + table);
    assertThat(rows).as(table).hasSize(1);
    return rows.getFirst();
  }

  @Test
  void writesBothRows(DataSource db) throws SQLException {
    UUID id = UUID.randomUUID();
    Note note = new Note(id, "text", 7);
    Instant before = Instant.now().minusMillis(1);
    try (Connection tx = Tx.begin(db)) {
      Rows.execute(tx, "SET TIME ZONE 'Asia/Tokyo'");
      long sequence = ChangeJournal.mutation("note", id, "create")
          .by(Tx.ACTOR)
          .payload(note)
          .metadata("source", "api")
          .write(tx);
      tx.commit();

      Map<String, @Nullable String> audit =
          one(tx, "(SELECT *, created_at AT TIME ZONE 'UTC' AS utc FROM audit_entries) t");
      Map<String, @Nullable String> change =
          one(tx, "(SELECT *, recorded_at AT TIME ZONE 'UTC' AS utc FROM change_journal) t");
      assertThat(UUID.fromString(audit.get("id")).version()).isEqualTo(4);
      assertThat(audit)
          .containsEntry("organization_id", "org-1")
          .containsEntry("actor_type", "user")
          .containsEntry("actor_id", "u-1")
          .containsEntry("action", "note.create")
          .containsEntry("resource_type", "note")
          .containsEntry("resource_id", id.toString())
          .containsEntry("metadata", "{\"source\": \"api\"}");
      assertThat(change)
          .containsEntry("seq", Long.toString(sequence))
          .containsEntry("organization_id", "org-1")
          .containsEntry("aggregate_type", "note")
          .containsEntry("aggregate_id", id.toString())
          .containsEntry("operation", "create")
          .containsEntry("actor_type", "user")
          .containsEntry("actor_id", "u-1")
          .containsEntry("aggregate_version", "7")
          .containsEntry("utc", audit.get("utc"));
      assertThat(JSON.readTree(change.get("payload")))
          .isEqualTo(JSON.readTree(JSON.writeValueAsString(note)));
      assertThat(Instant.parse(change.get("utc").replace(' ', 'T') + "Z"))
          .isBetween(before, Instant.now().plusMillis(1));
    }
  }

  @Test
  void numbersEveryChange(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      long first = ChangeJournal.mutation("note", "1", "create").by(Tx.ACTOR).write(tx);
      long second = ChangeJournal.mutation("note", "1", "delete").by(Tx.ACTOR).write(tx);
      tx.commit();
      assertThat(second).isGreaterThan(first);
      assertThat(Rows.column(tx, "SELECT DISTINCT id FROM audit_entries")).hasSize(2);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "\t\n", "\u00a0\u3000\u0085"})
  void storesBlankIdsAsNull(String blank, DataSource db) throws SQLException {
    ChangeActor actor = new ChangeActor("system", blank, "org-1");
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("settings", blank, "update").by(actor).write(tx);
      assertThat(one(tx, "audit_entries"))
          .containsEntry("actor_id", null)
          .containsEntry("resource_id", null);
      assertThat(one(tx, "change_journal"))
          .containsEntry("actor_id", null)
          .containsEntry("aggregate_id", null);
    }
  }

  @Test
  void storesJsonNull_withoutMetadataAndPayload(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "delete").by(Tx.ACTOR).write(tx);
      assertThat(one(tx, "audit_entries")).containsEntry("metadata", "null");
      assertThat(one(tx, "change_journal"))
          .containsEntry("payload", "null")
          .containsEntry("aggregate_version", "1");
    }
  }

  @Test
  void writesAnActionOfItsOwn(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "update")
          .by(Tx.ACTOR)
          .action("note.archive")
          .write(tx);
      assertThat(one(tx, "audit_entries")).containsEntry("action", "note.archive");
      assertThat(one(tx, "change_journal")).containsEntry("operation", "update");
    }
  }

  static Stream<JsonNode> actions() {
    return Vectors.cases("default_audit_action.json");
  }

  @ParameterizedTest
  @MethodSource("actions")
  void joinsTypeAndOperationToTheAction(JsonNode vector) {
    JsonNode input = vector.get("input");
    assertThat(ChangeJournal.defaultAction(
            input.get("resource_type").stringValue(), input.get("operation").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  static Stream<JsonNode> trims() {
    return Vectors.cases("go_trim_space.json");
  }

  @ParameterizedTest
  @MethodSource("trims")
  void trimsWhiteSpaceAsTheOtherWritersDo(JsonNode vector) {
    assertThat(Text.trim(vector.get("input").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  static Stream<Arguments> versions() {
    return Stream.of(
        Arguments.of(new Note(UUID.randomUUID(), "", 7), 7),
        Arguments.of(new Note(UUID.randomUUID(), "", Long.MAX_VALUE), Long.MAX_VALUE),
        Arguments.of(new Note(UUID.randomUUID(), "", 9007199254740993L), 9007199254740993L),
        // A version of zero is one; no version is not zero.
        Arguments.of(new Note(UUID.randomUUID(), "", 0), 0),
        Arguments.of(new Draft("", null), 1),
        Arguments.of(new Draft("", 3L), 3),
        Arguments.of(Map.of("version", "7"), 1),
        Arguments.of(Map.of("version", 7.5), 1),
        Arguments.of(Map.of("note", Map.of("version", 7)), 1),
        Arguments.of(List.of(Map.of("version", 7)), 1),
        Arguments.of("version", 1));
  }

  @ParameterizedTest
  @MethodSource("versions")
  void takesTheVersionFromThePayload(Object payload, long version, DataSource db)
      throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "update")
          .by(Tx.ACTOR)
          .payload(payload)
          .write(tx);
      assertThat(one(tx, "change_journal"))
          .containsEntry("aggregate_version", Long.toString(version));
    }
  }

  @Test
  void keepsEveryDigitOfANumber(DataSource db) throws SQLException {
    JsonNode payload =
        JSON.readTree("{\"big\": 9007199254740993, \"bigger\": 123456789012345678901234567890}");
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "update")
          .by(Tx.ACTOR)
          .payload(payload)
          .write(tx);
      assertThat(JSON.readTree(one(tx, "change_journal").get("payload"))).isEqualTo(payload);
    }
  }

  @Test
  void keepsTextsThatOnlyReadLikeNoNumber(DataSource db) throws SQLException {
    Map<String, String> payload = Map.of("NaN", "NaN", "of", "\"Infinity, -Infinity");
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "update")
          .by(Tx.ACTOR)
          .payload(payload)
          .metadata("payload", payload)
          .write(tx);
      assertThat(JSON.readTree(one(tx, "change_journal").get("payload")))
          .isEqualTo(JSON.valueToTree(payload));
    }
  }

  @Test
  void refusesAutoCommit_beforeAnythingIsWritten(DataSource db) throws SQLException {
    try (Connection connection = db.getConnection()) {
      assertThatThrownBy(
              () -> ChangeJournal.mutation("note", "1", "create").by(Tx.ACTOR).write(connection))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("tx must not be in auto-commit mode");
    }
    assertThat(Rows.count(db, "audit_entries")).isZero();
    assertThat(Rows.count(db, "change_journal")).isZero();
  }

  interface Write {
    void on(Connection tx) throws SQLException;
  }

  static Stream<Arguments> refused() {
    Circle circle = new Circle(new java.util.ArrayList<>());
    circle.items().add(circle);
    return Stream.of(
        Arguments.of("aggregateType and operation must not both be blank", (Write)
            tx -> ChangeJournal.mutation(" ", "1", "\u00a0").by(Tx.ACTOR).write(tx)),
        Arguments.of("aggregateType and operation must not both be blank", (Write)
            tx -> ChangeJournal.mutation("", "1", "")
                .by(Tx.ACTOR)
                .action("some.action")
                .write(tx)),
        Arguments.of(
            "action must not be blank", (Write) tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .action(" ")
                .write(tx)),
        Arguments.of("aggregateId must not begin or end with white space", (Write)
            tx -> ChangeJournal.mutation("note", " 1", "update").by(Tx.ACTOR).write(tx)),
        Arguments.of("aggregateId must not begin or end with white space", (Write) tx ->
            ChangeJournal.mutation("note", "1\u00a0", "update").by(Tx.ACTOR).write(tx)),
        Arguments.of("aggregateId must not contain NUL or half a surrogate pair", (Write)
            tx -> ChangeJournal.mutation("note", "1\0", "update").by(Tx.ACTOR).write(tx)),
        Arguments.of("aggregateType must not contain NUL or half a surrogate pair", (Write) tx ->
            ChangeJournal.mutation("no\ud800te", "1", "update").by(Tx.ACTOR).write(tx)),
        Arguments.of("operation must not contain NUL or half a surrogate pair", (Write)
            tx -> ChangeJournal.mutation("note", "1", "\udc00").by(Tx.ACTOR).write(tx)),
        Arguments.of(
            "marshal_change_payload: ", (Write) tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(circle)
                .write(tx)),
        Arguments.of("marshal_change_payload: ", (Write)
            tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(Map.of("version", new java.math.BigInteger("9223372036854775808")))
                .write(tx)),
        Arguments.of(
            "marshal_audit_metadata: ", (Write) tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .metadata("circle", circle)
                .write(tx)),
        Arguments.of("marshal_change_payload: JSON has no NaN, as at \"/sizes/1\"", (Write) tx ->
            ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(Map.of("sizes", List.of(1.5, Double.NaN)))
                .write(tx)),
        Arguments.of("marshal_change_payload: JSON has no Infinity, as at \"\"", (Write)
            tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(Double.POSITIVE_INFINITY)
                .write(tx)),
        Arguments.of("marshal_audit_metadata: JSON has no -Infinity, as at \"/ratio\"", (Write)
            tx -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .metadata("ratio", Float.NEGATIVE_INFINITY)
                .write(tx)));
  }

  @ParameterizedTest
  @MethodSource("refused")
  void refusesBadInput_andLeavesTheTransactionUsable(String message, Write write, DataSource db)
      throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      assertThatThrownBy(() -> write.on(tx))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith(message);
      assertThat(Rows.column(tx, "SELECT count(*) FROM audit_entries")).containsExactly("0");
      ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx);
      tx.commit();
    }
    assertThat(Rows.count(db, "change_journal")).isEqualTo(1);
  }

  /** JSON that an application has made itself. */
  record Raw(@JsonRawValue String json) {}

  static Stream<Object> unstorable() {
    return Stream.of("a\0b", "\ud800", "\udc00", "\udc00\udc00", "\ud800x", "x\udfff\ud800")
        .flatMap(text -> Stream.<Object>concat(
            Stream.of(
                text,
                List.of(List.of(text)),
                Map.of("key", text),
                Map.of(text, 1),
                Map.of("deep", Map.of(text, Map.of())),
                StringNode.valueOf(text),
                JsonNodeFactory.instance.objectNode().put(text, true)),
            text.chars()
                .mapToObj(c -> "\\u%04x".formatted(c))
                .collect(Collectors.collectingAndThen(
                    Collectors.joining(),
                    escaped -> Stream.of(
                        new Raw("\"" + escaped + "\""),
                        new Raw("{\"" + escaped + "\":1}"),
                        new Raw("[\"\\\\" + escaped + "\"]"))))));
  }

  @Test
  void refusesNulAndHalfSurrogatePairs_inPayloadAndMetadata(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      for (Object value : unstorable().toList()) {
        for (Write write : List.<Write>of(
            each -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(value)
                .write(each),
            each -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .metadata("value", value)
                .write(each),
            each -> ChangeJournal.mutation("note", "1", "update")
                .by(Tx.ACTOR)
                .payload(value)
                .action("some.action")
                .write(each))) {
          assertThatThrownBy(() -> write.on(tx))
              .isInstanceOf(IllegalArgumentException.class)
              .hasMessageStartingWith("marshal_");
        }
      }
      // Nothing was sent: the transaction goes on.
      ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx);
    }
  }

  @Test
  void storesEveryOtherCharacter(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      for (String text : List.of(
          "\ud83d\ude00",
          "\u0001",
          "\uffff",
          "\ufffd",
          "?",
          "\\u0000",
          "\\ud800",
          "\"\\\\",
          "\u2028")) {
        ChangeJournal.mutation("note", "1", "update")
            .by(Tx.ACTOR)
            .payload(Map.of("a" + text, text))
            .metadata("raw", new Raw("\"\\ud83d\\ude00\\\\u0000\""))
            .write(tx);
        assertThat(JsonMapper.shared()
                .readTree(
                    Rows.column(tx, "SELECT payload FROM change_journal ORDER BY seq DESC LIMIT 1")
                        .getFirst()))
            .isEqualTo(JsonMapper.shared().valueToTree(Map.of("a" + text, text)));
      }
    }
  }

  @Test
  void refusesAnActorThatNoReaderFinds() {
    assertThatThrownBy(() -> new ChangeActor("user", "u-1", " "))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("organizationId must not be blank");
    assertThatThrownBy(() -> new ChangeActor("user", "u-1", "org-1 "))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("organizationId must not begin or end with white space");
    assertThatThrownBy(() -> new ChangeActor("user", "u-1\n", "org-1"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("id must not begin or end with white space");
    assertThatThrownBy(() -> new ChangeActor("us\0er", "u-1", "org-1"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("type must not contain NUL or half a surrogate pair");
  }

  static Stream<Arguments> failures() {
    return Stream.of(
        Arguments.of(
            "ALTER TABLE audit_entries ADD CHECK (actor_type <> 'user')",
            "insert_audit_entry: ",
            "23514"),
        Arguments.of(
            "ALTER TABLE change_journal ADD CHECK (actor_type <> 'user')",
            "insert_change_journal: ",
            "23514"),
        Arguments.of(
            "ALTER TABLE audit_entries ADD extra text NOT NULL", "insert_audit_entry: ", "23502"),
        Arguments.of(
            "ALTER TABLE change_journal ADD extra text NOT NULL",
            "insert_change_journal: ",
            "23502"),
        Arguments.of(
            "ALTER TABLE audit_entries RENAME actor_id TO actor", "insert_audit_entry: ", "42703"),
        Arguments.of(
            "ALTER TABLE change_journal RENAME actor_id TO actor",
            "insert_change_journal: ",
            "42703"),
        Arguments.of("DROP TABLE audit_entries", "insert_audit_entry: ", "42P01"),
        Arguments.of("DROP TABLE change_journal", "insert_change_journal: ", "42P01"),
        Arguments.of(
            "ALTER TABLE change_journal ALTER aggregate_id TYPE uuid USING NULL",
            "insert_audit_entry or insert_change_journal: ",
            "22P02"));
  }

  @ParameterizedTest
  @MethodSource("failures")
  void saysWhichInsertFailed_andKeepsTheState(
      String change, String prefix, String state, DataSource db) throws SQLException {
    Rows.execute(db, "CREATE TABLE notes (id int)", change);
    try (Connection tx = Tx.begin(db)) {
      Rows.execute(tx, "INSERT INTO notes VALUES (1)");
      assertThatThrownBy(() -> ChangeJournal.mutation("note", "n-1", "update")
              .by(Tx.ACTOR)
              .payload("the payload")
              .metadata("of", "metadata")
              .write(tx))
          .isInstanceOfSatisfying(SQLException.class, failure -> {
            assertThat(failure.getSQLState()).isEqualTo(state);
            // The row's values are in the details, which are the driver's.
            assertThat(failure.getMessage())
                .startsWith(prefix + "ERROR: ")
                .doesNotContain("the payload", "metadata\"", "\n");
            assertThat(failure.getCause()).isInstanceOf(SQLException.class);
          });
      tx.commit();
    }
    assertThat(Rows.count(db, "notes"))
        .as("a failed transaction commits nothing")
        .isZero();
  }

  @Test
  void writesNeither_whenTheOtherFailsAndTheServiceGoesOn(DataSource db) throws SQLException {
    Rows.execute(db, "ALTER TABLE change_journal ADD CHECK (operation <> 'bad')");
    try (Connection tx = Tx.begin(db)) {
      var savepoint = tx.setSavepoint();
      assertThatThrownBy(
              () -> ChangeJournal.mutation("note", "1", "bad").by(Tx.ACTOR).write(tx))
          .isInstanceOf(SQLException.class);
      tx.rollback(savepoint);
      tx.commit();
    }
    assertThat(Rows.count(db, "audit_entries")).isZero();
    assertThat(Rows.count(db, "change_journal")).isZero();
  }

  @ParameterizedTest
  @ValueSource(strings = {"audit_entries", "change_journal"})
  void fails_whenATriggerKeepsARowAway(String table, DataSource db) throws SQLException {
    Rows.execute(
        db,
        "CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t BEFORE INSERT ON " + table + " FOR EACH ROW EXECUTE FUNCTION drop_row()");
    try (Connection tx = Tx.begin(db)) {
      assertThatThrownBy(
              () -> ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx))
          .isInstanceOf(SQLException.class)
          .hasMessageStartingWith("insert_audit_entry or insert_change_journal: ")
          .hasMessageContaining("kept the row away");
    }
  }

  @Test
  void needsNoMoreThanInsertOnTheAuditTable(DataSource db) throws SQLException {
    String role = "journal_" + UUID.randomUUID().toString().replace('-', '_');
    Rows.execute(
        db,
        "CREATE ROLE " + role,
        "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO " + role
            + "', current_schema()); END $$",
        "GRANT INSERT ON audit_entries TO " + role,
        "GRANT INSERT, SELECT (seq) ON change_journal TO " + role);
    try (Connection tx = Tx.begin(db)) {
      Rows.execute(tx, "SET LOCAL ROLE " + role);
      ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx);
      tx.commit();
      assertThat(Rows.count(db, "audit_entries")).isEqualTo(1);
    } finally {
      Rows.execute(db, "DROP OWNED BY " + role, "DROP ROLE " + role);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"change_journal", "audit_entries"})
  void takesTheTransactionsIdBeforeTheNumber(String table, DataSource db) throws SQLException {
    Rows.execute(
        db,
        "CREATE FUNCTION numbered() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN"
            + " IF pg_current_xact_id_if_assigned() IS NULL THEN RAISE 'no id yet'; END IF; RETURN 42; END $$",
        "ALTER TABLE " + table + " ALTER seq DROP IDENTITY",
        "ALTER TABLE " + table + " ALTER seq SET DEFAULT numbered()");
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx);
      assertThat(one(tx, table)).containsEntry("seq", "42");
    }
  }

  @Test
  void namesAllProblemsAtOnce_beforeAnythingIsWritten(DataSource db) throws SQLException {
    try (Connection connection = db.getConnection()) {
      assertThatThrownBy(() -> ChangeJournal.mutation(" ", "1 ", "")
              .payload(Double.NaN)
              .metadata("text", "\0")
              .action("")
              .write(connection))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage(
              "actor must be set: by(actor)"
                  + "; aggregateType and operation must not both be blank"
                  + "; action must not be blank"
                  + "; aggregateId must not begin or end with white space"
                  + "; marshal_audit_metadata: a text or key must not contain NUL or half a surrogate pair"
                  + "; marshal_change_payload: JSON has no NaN, as at \"\""
                  + "; tx must not be in auto-commit mode: nothing would tie the two rows to the mutation");
    }
    assertThat(Rows.count(db, "audit_entries")).isZero();
  }

  @Test
  void needsAnActor(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      assertThatThrownBy(() -> ChangeJournal.mutation("note", "1", "create").write(tx))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("actor must be set: by(actor)");
      assertThat(Rows.column(tx, "SELECT count(*) FROM audit_entries")).containsExactly("0");
    }
  }

  @Test
  void storesAllMetadata_theLastValueOfEachName(DataSource db) throws SQLException {
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "1", "create")
          .by(Tx.ACTOR)
          .metadata("source", "import")
          .metadata("batch", Map.of("row", 7))
          .metadata("reason", null)
          .metadata("source", "api")
          .write(tx);
      assertThat(JSON.readTree(one(tx, "audit_entries").get("metadata")))
          .isEqualTo(
              JSON.readTree("{\"source\": \"api\", \"batch\": {\"row\": 7}, \"reason\": null}"));
    }
  }

  @Test
  void namesTheArgumentsOfTheTemplatesInOrder() {
    ChangeJournal.Templates numbered = ChangeJournal.templates(ChangeJournal.Placeholders.NUMBERED);
    assertThat(numbered.auditEntry())
        .isEqualTo(
            "INSERT INTO audit_entries (id, organization_id, actor_type, actor_id, action, resource_type,"
                + " resource_id, metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    assertThat(numbered.changeJournal())
        .isEqualTo(
            "INSERT INTO change_journal (organization_id, aggregate_type, aggregate_id, operation, actor_type,"
                + " actor_id, aggregate_version, recorded_at, payload)"
                + " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING seq");
    ChangeJournal.Templates marks =
        ChangeJournal.templates(ChangeJournal.Placeholders.QUESTION_MARKS);
    assertThat(marks.auditEntry()).isEqualTo(numbered.auditEntry().replaceAll("\\$\\d", "?"));
    assertThat(marks.changeJournal()).isEqualTo(numbered.changeJournal().replaceAll("\\$\\d", "?"));
  }

  @Test
  void runsTheTemplatesOfBothStyles(DataSource db) throws SQLException {
    List<Object> audit = List.of(
        UUID.randomUUID(), "org-1", "user", "u-1", "note.create", "note", "1", "null", "now");
    List<Object> change =
        List.of("org-1", "note", "1", "create", "user", "u-1", 7L, "now", "{\"a\": 1}");
    ChangeJournal.Templates marks =
        ChangeJournal.templates(ChangeJournal.Placeholders.QUESTION_MARKS);
    ChangeJournal.Templates numbered = ChangeJournal.templates(ChangeJournal.Placeholders.NUMBERED);
    try (Connection tx = Tx.begin(db)) {
      run(tx, marks.auditEntry(), audit, false);
      run(tx, marks.changeJournal(), change, true);

      Rows.execute(tx, "PREPARE change AS " + numbered.changeJournal());
      assertThat(Rows.column(
              tx, "EXECUTE change('org-1', 'note', '2', 'create', 'user', 'u-1', 8, now(), '{}')"))
          .hasSize(1);
      Rows.execute(
          tx,
          "PREPARE audit AS " + numbered.auditEntry(),
          "EXECUTE audit(gen_random_uuid(), 'org-1', 'user', 'u-1', 'a', 'note', '2', 'null', now())");

      assertThat(Rows.column(tx, "SELECT resource_id FROM audit_entries ORDER BY resource_id"))
          .containsExactly("1", "2");
      assertThat(Rows.column(tx, "SELECT aggregate_version FROM change_journal ORDER BY seq"))
          .containsExactly("7", "8");
    }
  }

  private static void run(
      Connection tx, String sql, List<Object> arguments, boolean returnsSequence)
      throws SQLException {
    try (PreparedStatement statement = tx.prepareStatement(sql)) {
      for (int i = 0; i < arguments.size(); i++) {
        statement.setObject(i + 1, arguments.get(i), java.sql.Types.OTHER);
      }
      assertThat(statement.execute()).isEqualTo(returnsSequence);
      if (returnsSequence) {
        try (ResultSet result = statement.getResultSet()) {
          assertThat(result.next()).isTrue();
          assertThat(result.getLong("seq")).isPositive();
        }
      }
    }
  }
}
