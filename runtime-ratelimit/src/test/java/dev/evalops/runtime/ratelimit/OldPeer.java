package dev.evalops.runtime.ratelimit;

import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.api.sync.RedisCommands;
import java.util.List;

/** A process on the same Redis that runs the older script: with its own clock, and without the field rate. */
final class OldPeer {
  private static final String SCRIPT = """
      local now, rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
      local state = redis.call('HMGET', KEYS[1], 'tokens', 'updated_at_ms')
      local tokens, updated = tonumber(state[1]), tonumber(state[2])
      if tokens == nil then
        tokens = burst
        updated = now
      end
      if now > updated then
        tokens = math.min(burst, tokens + (now - updated) / 1000 * rate)
        updated = now
      end
      local allowed, retry = 0, 0
      if tokens >= 1 then
        tokens = tokens - 1
        allowed = 1
      else
        retry = math.ceil((1 - tokens) / rate * 1000)
      end
      redis.call('HSET', KEYS[1], 'tokens', tokens, 'updated_at_ms', updated)
      redis.call('PEXPIRE', KEYS[1], ARGV[4])
      return {allowed, retry}
      """;

  private final RedisCommands<String, String> redis;

  OldPeer(RedisCommands<String, String> redis) {
    this.redis = redis;
  }

  /** The answer: allowed (0 or 1), milliseconds to wait. */
  List<Long> take(String key, long nowMillis, String perSecond, int burst) {
    return redis.eval(
        SCRIPT,
        ScriptOutputType.MULTI,
        new String[] {key},
        Long.toString(nowMillis),
        perSecond,
        Integer.toString(burst),
        "300000");
  }
}
