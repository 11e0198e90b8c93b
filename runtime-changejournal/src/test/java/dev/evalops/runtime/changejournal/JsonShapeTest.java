package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Instant;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeFactory;

class JsonShapeTest {
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final Instant AT = Instant.parse("2026-01-02T03:04:05.678901Z");

  @Test
  void writesAndReadsAChange_withTheNamesOfTheColumns() {
    Change change = new Change(
        9007199254740993L,
        "org-1",
        "note",
        Optional.of("n-1"),
        "create",
        "user",
        Optional.of("u-1"),
        7,
        AT,
        JSON.readTree("{\"big\":9007199254740993}"));
    String json =
        "{\"seq\":9007199254740993,\"organization_id\":\"org-1\",\"aggregate_type\":\"note\",\"aggregate_id\":\"n-1\","
            + "\"operation\":\"create\",\"actor_type\":\"user\",\"actor_id\":\"u-1\",\"aggregate_version\":7,"
            + "\"recorded_at\":\"2026-01-02T03:04:05.678901Z\",\"payload\":{\"big\":9007199254740993}}";
    assertThat(JSON.writeValueAsString(change)).isEqualTo(json);
    assertThat(JSON.readValue(json, Change.class)).isEqualTo(change);
  }

  @Test
  void leavesOutTheAbsentIdsOfAChange() {
    Change change = new Change(
        1,
        "org-1",
        "settings",
        Optional.empty(),
        "update",
        "system",
        Optional.empty(),
        1,
        AT,
        JsonNodeFactory.instance.nullNode());
    String json =
        "{\"seq\":1,\"organization_id\":\"org-1\",\"aggregate_type\":\"settings\",\"operation\":\"update\","
            + "\"actor_type\":\"system\",\"aggregate_version\":1,"
            + "\"recorded_at\":\"2026-01-02T03:04:05.678901Z\",\"payload\":null}";
    assertThat(JSON.writeValueAsString(change)).isEqualTo(json);
    assertThat(JSON.readValue(json, Change.class)).isEqualTo(change);
  }

  @Test
  void writesAndReadsAnAuditEntry_withTheNamesOfTheColumns() {
    AuditEntry entry = new AuditEntry(
        "00000000-0000-4000-8000-000000000001",
        "org-1",
        "user",
        Optional.of("u-1"),
        "note.create",
        "note",
        Optional.of("n-1"),
        JSON.readTree("{\"source\":\"api\"}"),
        AT);
    String json =
        "{\"id\":\"00000000-0000-4000-8000-000000000001\",\"organization_id\":\"org-1\",\"actor_type\":\"user\","
            + "\"actor_id\":\"u-1\",\"action\":\"note.create\",\"resource_type\":\"note\",\"resource_id\":\"n-1\","
            + "\"metadata\":{\"source\":\"api\"},\"created_at\":\"2026-01-02T03:04:05.678901Z\"}";
    assertThat(JSON.writeValueAsString(entry)).isEqualTo(json);
    assertThat(JSON.readValue(json, AuditEntry.class)).isEqualTo(entry);
  }

  @Test
  void leavesOutTheAbsentIdsOfAnAuditEntry() {
    AuditEntry entry = new AuditEntry(
        "i",
        "org-1",
        "system",
        Optional.empty(),
        "settings.update",
        "settings",
        Optional.empty(),
        JsonNodeFactory.instance.nullNode(),
        AT);
    String json =
        "{\"id\":\"i\",\"organization_id\":\"org-1\",\"actor_type\":\"system\",\"action\":\"settings.update\","
            + "\"resource_type\":\"settings\",\"metadata\":null,\"created_at\":\"2026-01-02T03:04:05.678901Z\"}";
    assertThat(JSON.writeValueAsString(entry)).isEqualTo(json);
    assertThat(JSON.readValue(json, AuditEntry.class)).isEqualTo(entry);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"organization_id", "aggregate_type", "operation", "actor_type", "recorded_at"})
  void refusesAChangeWithoutIts(String name) {
    var json = JSON.createObjectNode()
        .put("seq", 1)
        .put("organization_id", "org-1")
        .put("aggregate_type", "note")
        .put("operation", "create")
        .put("actor_type", "user")
        .put("aggregate_version", 1)
        .put("recorded_at", AT.toString())
        .putNull("payload");
    json.remove(name);
    assertThatThrownBy(() -> JSON.treeToValue(json, Change.class))
        .isInstanceOf(JacksonException.class);
  }
}
