package dev.evalops.runtime.natsbus;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.nats.client.impl.Headers;
import io.nats.client.support.IncomingHeadersProcessor;
import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.Base64;
import java.util.Random;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class HeaderGuardTest {
  private static byte[] bytes(String text) {
    return text.getBytes(ISO_8859_1);
  }

  private static byte[] message(String begin, byte[] headers, String body) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.writeBytes(bytes(
        "HMSG " + begin + " " + headers.length + " " + (headers.length + body.length()) + "\r\n"));
    out.writeBytes(headers);
    out.writeBytes(bytes(body + "\r\n"));
    return out.toByteArray();
  }

  /** What comes out where the bytes come in pieces of this size. */
  private static byte[] pass(byte[] in, int piece) {
    HeaderGuard guard = new HeaderGuard();
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    byte[] buffer = new byte[7];
    for (int at = 0; at < in.length; at += piece) {
      guard.put(in, at, Math.min(piece, in.length - at));
      for (int taken = guard.take(buffer, 0, 7); taken > 0; taken = guard.take(buffer, 0, 7)) {
        out.write(buffer, 0, taken);
      }
    }
    return out.toByteArray();
  }

  /** The header block of the only message. */
  private static byte[] block(byte[] out) {
    String text = new String(out, ISO_8859_1);
    int end = text.indexOf("\r\n");
    String[] words = text.substring(0, end).split(" ", -1);
    int length = Integer.parseInt(words[words.length - 2]);
    assertThat(out).hasSize(end + 2 + Integer.parseInt(words[words.length - 1]) + 2);
    return Arrays.copyOfRange(out, end + 2, end + 2 + length);
  }

  @ParameterizedTest
  @MethodSource("dev.evalops.runtime.natsbus.PoisonTest#poisons")
  void replacesWhatTheClientCannotRead_andKeepsItsBytes(String kind, byte[] poison) {
    for (int piece : new int[] {1, 3, 4096}) {
      byte[] out = pass(message("a.b 7 $JS.ACK.x", poison, "body"), piece);

      Headers headers = new IncomingHeadersProcessor(block(out)).getHeaders();
      assertThat(HeaderGuard.reason(headers)).as(kind).isNotBlank();
      assertThat(Base64.getDecoder().decode(HeaderGuard.raw(headers))).isEqualTo(poison);
      assertThat(new String(out, ISO_8859_1))
          .startsWith("HMSG a.b 7 $JS.ACK.x ")
          .endsWith("body\r\n");
    }
  }

  @Test
  void changesNothingElse() {
    ByteArrayOutputStream in = new ByteArrayOutputStream();
    in.writeBytes(bytes("INFO {\"server_id\":\"X\"}\r\nPING\r\n+OK\r\n-ERR 'no'\r\n"));
    in.writeBytes(
        bytes("MSG a 1 12\r\nHMSG a 1 1 1\r\n\r\nMSG a 1 reply 0\r\n\r\nmsg a 1 1\r\nx\r\n"));
    byte[] good = bytes("NATS/1.0\r\na: b\r\nb:\r\n\r\n");
    in.writeBytes(message("a 1", good, ""));
    in.writeBytes(message("a 1 reply", good, "MSG a 1 1\r\n"));
    in.writeBytes(message("a 1 reply", bytes("NATS/1.0\r\n\r\n"), "x"));
    in.writeBytes(message("_INBOX.a 1", bytes("NATS/1.0 503\r\n\r\n"), ""));
    in.writeBytes(message("_INBOX.a 1", bytes("NATS/1.0 100 Idle Heartbeat\r\n\r\n"), ""));
    in.writeBytes(bytes("PONG\r\n"));

    for (int piece : new int[] {1, 2, 3, 5, 64, 4096}) {
      assertThat(pass(in.toByteArray(), piece)).isEqualTo(in.toByteArray());
    }
  }

  @Test
  void replacesEventsThatWouldPassForMessagesOfTheServer() {
    byte[] heartbeat = bytes("NATS/1.0 100 Idle Heartbeat\r\n\r\n");
    Headers headers = new IncomingHeadersProcessor(
            block(pass(message("a 1 $JS.ACK.x", heartbeat, "x"), 9)))
        .getHeaders();
    assertThat(Base64.getDecoder().decode(HeaderGuard.raw(headers))).isEqualTo(heartbeat);

    byte[] forged = bytes("NATS/1.0\r\nmalformed-headers: x\r\n\r\n");
    headers =
        new IncomingHeadersProcessor(block(pass(message("a 1", forged, "x"), 9))).getHeaders();
    assertThat(Base64.getDecoder().decode(HeaderGuard.raw(headers))).isEqualTo(forged);
  }

  @Test
  void passesWhatIsNoProtocol_asItIs() {
    for (String nonsense : new String[] {
      "HMSG a 1 2\r\nx",
      "HMSG a 1 9 8\r\n",
      "MSG a\r\n",
      "MSG a 1 99999999999\r\nxyz\r\n",
      "\r\n\r\n",
      "HMSG a 1 -4 2\r\n",
      "HTTP/1.1 400 Bad Request\r\n\r\n"
    }) {
      assertThat(pass(bytes(nonsense), 3)).isEqualTo(bytes(nonsense));
    }
  }

  @Property(tries = 300)
  void leavesNothingThatEndsTheReader(@ForAll long seed) {
    Random random = new Random(seed);
    byte[] block = bytes("NATS/1.0\r\nce-id: e-1\r\nce-tenantid: cafe\r\n\r\n");
    for (int i = random.nextInt(4); i >= 0; i--) {
      block[random.nextInt(block.length)] = random.nextBoolean()
          ? (byte) random.nextInt(256)
          : (byte) "\r\n :/\0".charAt(random.nextInt(6));
    }
    byte[] headers = Arrays.copyOf(block, random.nextInt(block.length + 1));
    byte[] out = pass(message("a 1 $JS.ACK.x", headers, "body"), 1 + random.nextInt(50));

    assertThatCode(() -> new IncomingHeadersProcessor(block(out))).doesNotThrowAnyException();
    assertThat(new String(out, ISO_8859_1)).endsWith("body\r\n");
  }

  @Test
  void doesNotParseTwice_whatPublishersUsuallyWrite() {
    for (String usual : new String[] {
      "NATS/1.0\r\nNats-Msg-Id: 7\r\nce-id: e 1%20\r\n\r\n", // Go
      "NATS/1.0\r\nNats-Msg-Id:7\r\nce-id:e 1%20\r\n\r\n" // Java
    }) {
      assertThat(HeaderGuard.isPlain(bytes(usual))).as(usual).isTrue();
    }
    for (String other : new String[] {
      "",
      "NATS/1.0\r\n",
      "NATS/1.0\r\n\r",
      "NATS/1.0 503\r\n\r\n",
      "NATS/1.1\r\nce-id: 1\r\n\r\n",
      "NATS/1.0\r\nce-id: 1\r\n",
      "NATS/1.0\r\nce-id: 1\r\n\r\nx",
      "NATS/1.0\r\nce-id: caf\u00e9\r\n\r\n",
      "NATS/1.0\r\nce-id: a\tb\r\n\r\n",
      "NATS/1.0\r\n: 1\r\n\r\n",
      "NATS/1.0\r\nce-id\r\n\r\n",
      "NATS/1.0\r\nce-id:\r\n\r\n",
      "NATS/1.0\r\nce-id: \r\n\r\n",
      "NATS/1.0\r\nmalformed-headers:1\r\n\r\n",
      "NATS/1.0\r\nmalformed-headers: 1\r\n\r\n"
    }) {
      assertThat(HeaderGuard.isPlain(bytes(other))).as(other).isFalse();
    }
  }

  @Property(tries = 2_000)
  void takesForPlain_onlyWhatTheParserReadsAsHeaders(@ForAll long seed) {
    Random random = new Random(seed);
    String alphabet = "aZ9-: \r\n~\"\t\0\u007f\u0080m";
    StringBuilder block = new StringBuilder("NATS/1.0\r\n");
    for (int line = random.nextInt(3); line >= 0; line--) {
      for (int i = random.nextInt(3); i >= 0; i--) {
        block.append(
            alphabet.charAt(random.nextInt(random.nextInt(4) == 0 ? alphabet.length() : 4)));
      }
      block.append(random.nextBoolean() ? ": " : ":");
      for (int i = random.nextInt(4); i >= 0; i--) {
        block.append(
            alphabet.charAt(random.nextInt(random.nextInt(4) == 0 ? alphabet.length() : 6)));
      }
      block.append("\r\n");
    }
    byte[] bytes = bytes(block.append("\r\n").toString());
    if (HeaderGuard.isPlain(bytes)) {
      IncomingHeadersProcessor parsed = new IncomingHeadersProcessor(bytes);
      assertThat(parsed.getStatus()).isNull();
      assertThat(parsed.getHeaders().isEmpty()).isFalse();
    }
  }

  /** Were it otherwise, there would be no need of the guard. */
  @ParameterizedTest
  @MethodSource("dev.evalops.runtime.natsbus.PoisonTest#poisons")
  void isNeeded_becauseTheParserOfTheClientThrows(String kind, byte[] poison) {
    assertThatThrownBy(() -> new IncomingHeadersProcessor(poison))
        .as(kind)
        .isInstanceOf(RuntimeException.class);
  }
}
