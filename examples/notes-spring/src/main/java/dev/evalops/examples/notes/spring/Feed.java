package dev.evalops.examples.notes.spring;

import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;

import com.google.protobuf.Struct;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.featureflags.FeatureFlags;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.List;
import java.util.UUID;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.stereotype.Component;
import tools.jackson.databind.PropertyNamingStrategies.SnakeCaseStrategy;
import tools.jackson.databind.annotation.JsonNaming;

/** What was heard on the bus, each change once however often it comes. */
@Component
class Feed {
  private final JdbcClient jdbc;
  private final FeatureFlags flags;

  @JsonNaming(SnakeCaseStrategy.class)
  record Item(UUID noteId, long version, String operation, String title, Instant changedAt) {}

  Feed(JdbcClient jdbc, FeatureFlags flags) {
    this.jdbc = jdbc;
    this.flags = flags;
  }

  /** Takes in a change, in the transaction that also remembers its event. */
  void apply(Event event, Connection tx) throws SQLException {
    Struct changed = event.payload(Struct.getDefaultInstance());
    try (PreparedStatement insert = tx.prepareStatement(
        "INSERT INTO feed (note_id, version, seq, organization_id, operation, title, changed_at)"
            + " VALUES (?, ?, ?, ?, ?, ?, ?)")) {
      insert.setObject(1, UUID.fromString(event.aggregateId().orElseThrow()));
      insert.setLong(2, event.version().orElseThrow());
      insert.setLong(3, event.sequence().orElseThrow());
      insert.setString(4, event.organizationId().orElseThrow());
      insert.setString(5, event.operation().orElseThrow());
      insert.setString(6, changed.getFieldsOrThrow("title").getStringValue());
      insert.setObject(
          7,
          Instant.parse(changed.getFieldsOrThrow("changed_at").getStringValue())
              .atOffset(ZoneOffset.UTC));
      insert.execute();
    }
  }

  /** The newest first; organizations that it is not on for do not see that there is a feed. */
  List<Item> newest(String organization, long limit) {
    if (!flags.enabledFor("notes.feed", organization)) {
      throw ServiceException.of(NOT_FOUND).op("feed.read");
    }
    return jdbc.sql("SELECT note_id, version, operation, title, changed_at FROM feed"
            + " WHERE organization_id = ? ORDER BY seq DESC LIMIT ?")
        .params(organization, limit)
        .query((row, number) -> new Item(
            row.getObject(1, UUID.class),
            row.getLong(2),
            row.getString(3),
            row.getString(4),
            row.getObject(5, OffsetDateTime.class).toInstant()))
        .list();
  }
}
