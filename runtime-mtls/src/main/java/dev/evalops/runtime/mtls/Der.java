package dev.evalops.runtime.mtls;

import java.nio.ByteBuffer;
import java.util.Arrays;

/** As much of DER as keys and names need. */
final class Der {
  private Der() {}

  /** Reads tag and length of a DER element, and gives the length of its content. */
  static int enter(ByteBuffer der) {
    der.get();
    int length = der.get() & 0xff;
    if (length < 0x80) {
      return length;
    }
    int value = 0;
    for (int octets = length & 0x7f; octets > 0; octets--) {
      value = (value << 8) | (der.get() & 0xff);
    }
    return value;
  }

  static byte[] element(int tag, byte[]... contents) {
    int length = 0;
    for (byte[] content : contents) {
      length += content.length;
    }
    ByteBuffer der = ByteBuffer.allocate(length + 4);
    der.put((byte) tag);
    if (length < 0x80) {
      der.put((byte) length);
    } else if (length < 0x100) {
      der.put((byte) 0x81).put((byte) length);
    } else {
      der.put((byte) 0x82).putShort((short) length); // a private key is far below 64 KiB
    }
    for (byte[] content : contents) {
      der.put(content);
    }
    return Arrays.copyOf(der.array(), der.position());
  }
}
