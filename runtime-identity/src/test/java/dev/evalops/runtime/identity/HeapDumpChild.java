package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.management.HotSpotDiagnosticMXBean;
import java.lang.management.ManagementFactory;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;

/** A process that introspects tokens with every cache on, forgets them itself, and writes a heap dump. */
final class HeapDumpChild {
  static final int TOKENS = 50;
  private static final List<String> KEPT = new ArrayList<>();

  private HeapDumpChild() {}

  /** Made at run time, so that no class file holds it. */
  static String token(String seed, int number) throws Exception {
    byte[] hash = MessageDigest.getInstance("SHA-256").digest((seed + number).getBytes(UTF_8));
    return HexFormat.of().formatHex(hash);
  }

  /** Arguments: seed, URL to introspect, URL of service tokens, file of the dump. */
  public static void main(String[] args) throws Exception {
    IdentityClient client = IdentityClient.builder(args[1])
        .serviceTokens(args[2])
        .bootstrapKey("bootstrap-key")
        .freshFor(Duration.ofHours(1))
        .fallbackFor(Duration.ofHours(1))
        .open();
    for (int i = 0; i < TOKENS; i++) {
      introspect(client, args[0], i);
    }
    KEPT.add(token(args[0], -1));
    System.out.println(client.serviceToken("org-1", "billing", Set.of(), Duration.ofMinutes(5)));
    ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class).dumpHeap(args[3], true);
    // Still cached, so the dump has seen the cache full.
    introspect(client, args[0], 0);
    System.out.println(KEPT.size());
  }

  private static void introspect(IdentityClient client, String seed, int number) throws Exception {
    String token = token(seed, number);
    try {
      client.introspect(token);
    } catch (IdentityException e) {
      if (number % 10 != 9) {
        throw e;
      }
    }
  }
}
