package dev.evalops.examples.notes;

import io.lettuce.core.RedisException;
import io.lettuce.core.SetArgs;
import io.lettuce.core.api.StatefulRedisConnection;
import java.time.Duration;
import java.util.Optional;
import java.util.UUID;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;

/**
 * Notes that were read or changed lately, in Redis. A reader only fills a gap, a writer always overwrites, so a slow reader cannot
 * put an old version over a new one. Two writers can, for {@code KEEP} at most, which costs a client a 412. Without Redis the service is slower, not down.
 */
final class NoteCache {
  private static final Logger log = LoggerFactory.getLogger(NoteCache.class);
  private static final Duration KEEP = Duration.ofSeconds(30);
  private static final JsonMapper JSON = JsonMapper.shared();

  private final StatefulRedisConnection<String, String> redis;

  NoteCache(StatefulRedisConnection<String, String> redis) {
    this.redis = redis;
  }

  Optional<Note> get(String organization, UUID id) {
    try {
      return Optional.ofNullable(redis.sync().get(key(organization, id)))
          .map(json -> JSON.readValue(json, Note.class));
    } catch (RedisException | JacksonException e) {
      log.atWarn().setCause(e).log("note cache not readable");
      return Optional.empty();
    }
  }

  void fill(String organization, Note note) {
    put(organization, note, SetArgs.Builder.ex(KEEP).nx());
  }

  void overwrite(String organization, Note note) {
    put(organization, note, SetArgs.Builder.ex(KEEP));
  }

  private void put(String organization, Note note, SetArgs how) {
    try {
      redis.sync().set(key(organization, note.id()), JSON.writeValueAsString(note), how);
    } catch (RedisException e) {
      log.atWarn().setCause(e).log("note cache not writable");
    }
  }

  private static String key(String organization, UUID id) {
    return "notes:" + organization + ":note:" + id;
  }
}
