package dev.evalops.runtime.identity;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.security.DigestException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicReferenceArray;

/** The SHA-256 of a token, which stands for it in maps: no token is kept. */
record TokenHash(long a, long b, long c, long d) {
  // Digests and their buffers are used again: to make them costs more than a short token's hash.
  private static final AtomicReferenceArray<Hasher> IDLE = new AtomicReferenceArray<>(16);

  /**
   * Hashes a token.
   *
   * @param token of ASCII characters
   */
  static TokenHash of(String token) {
    int place = (int) Thread.currentThread().getId() & (IDLE.length() - 1);
    Hasher idle = IDLE.getAndSet(place, null);
    Hasher hasher = idle == null ? new Hasher() : idle;
    TokenHash hash = hasher.hash(token);
    IDLE.set(place, hasher);
    return hash;
  }

  @Override
  public int hashCode() {
    return (int) a;
  }

  private static final class Hasher {
    private static final VarHandle LONG =
        MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    private final MessageDigest digest;
    private final byte[] buffer = new byte[512];

    Hasher() {
      try {
        digest = MessageDigest.getInstance("SHA-256");
      } catch (NoSuchAlgorithmException e) {
        throw new IllegalStateException(e); // every JDK has it
      }
    }

    @SuppressWarnings("deprecation") // The one copy of characters that makes no garbage.
    TokenHash hash(String token) {
      int length = token.length();
      for (int start = 0; start < length; start += buffer.length) {
        int end = Math.min(length, start + buffer.length);
        token.getBytes(start, end, buffer, 0);
        digest.update(buffer, 0, end - start);
      }
      Arrays.fill(buffer, 0, Math.min(length, buffer.length), (byte) 0);
      try {
        digest.digest(buffer, 0, 32);
        digest.reset(); // else the end of the token stays in it until the next one
      } catch (DigestException e) {
        throw new IllegalStateException(e); // the buffer is long enough
      }
      return new TokenHash(at(0), at(8), at(16), at(24));
    }

    private long at(int index) {
      return (long) LONG.get(buffer, index);
    }
  }
}
