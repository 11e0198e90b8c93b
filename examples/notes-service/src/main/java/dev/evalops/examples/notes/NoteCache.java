package dev.evalops.examples.notes;

import io.lettuce.core.RedisException;
import io.lettuce.core.SetArgs;
import io.lettuce.core.api.sync.RedisStringCommands;
import java.time.Duration;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;

/**
 * Notes that were read or changed lately, in Redis. A reader only fills a gap, a writer always overwrites, so a slow
 * reader cannot put an old version over a new one. Two writers can, for {@code KEEP} at most, which costs a client a
 * 412. Without Redis the service is slower, not down.
 */
final class NoteCache {
  private static final Logger log = LoggerFactory.getLogger(NoteCache.class);
  private static final Duration KEEP = Duration.ofSeconds(30);
  private static final JsonMapper JSON = JsonMapper.shared();

  private final RedisStringCommands<String, String> redis;
  private final AtomicBoolean reachable = new AtomicBoolean(true);

  NoteCache(RedisStringCommands<String, String> redis) {
    this.redis = redis;
  }

  Optional<Note> get(String organization, UUID id) {
    try {
      String json = redis.get(key(organization, id));
      reachable(true, null);
      return json == null ? Optional.empty() : Optional.of(JSON.readValue(json, Note.class));
    } catch (RedisException e) {
      reachable(false, e);
    } catch (JacksonException e) {
      log.atWarn().setCause(e).log("note cache holds what is no note");
    }
    return Optional.empty();
  }

  void fill(String organization, Note note) {
    put(organization, note, SetArgs.Builder.ex(KEEP).nx());
  }

  void overwrite(String organization, Note note) {
    put(organization, note, SetArgs.Builder.ex(KEEP));
  }

  private void put(String organization, Note note, SetArgs how) {
    try {
      redis.set(key(organization, note.id()), JSON.writeValueAsString(note), how);
      reachable(true, null);
    } catch (RedisException e) {
      reachable(false, e);
    }
  }

  /** Says it once when the cache goes away, and once when it is back. */
  private void reachable(boolean now, @Nullable RedisException failure) {
    if (reachable.get() != now && reachable.compareAndSet(!now, now)) {
      log.atLevel(now ? Level.INFO : Level.WARN)
          .setCause(failure)
          .log(now ? "note cache is back" : "note cache is away; notes come from Postgres");
    }
  }

  private static String key(String organization, UUID id) {
    return "notes:" + organization + ":note:" + id;
  }
}
