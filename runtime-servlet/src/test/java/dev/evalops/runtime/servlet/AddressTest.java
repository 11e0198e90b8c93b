package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import java.net.InetSocketAddress;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A container that goes by {@code X-Forwarded-For} gives a text of the client's as its address. */
class AddressTest {
  private static InetSocketAddress resolved(String host) {
    return new ServletExchange.Address(host, 80).resolved();
  }

  @ParameterizedTest
  @CsvSource({
    "203.0.113.9, 203.0.113.9",
    "2001:db8::1, 2001:db8:0:0:0:0:0:1",
    "[2001:db8::1], 2001:db8:0:0:0:0:0:1",
    "::ffff:203.0.113.9, 203.0.113.9",
    "fe80::1%1, fe80:0:0:0:0:0:0:1%1",
  })
  void isOneThatIsWritten(String host, String address) {
    assertThat(resolved(host).getAddress().getHostAddress()).isEqualTo(address);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "unknown", "localhost", "1.2.3", "256.1.1.1", ":", ".:1", "1.:2", "1::2::3"})
  void isNoneThatWouldHaveToBeLookedUp(String host) {
    assertThat(resolved(host).isUnresolved()).isTrue();
    assertThat(resolved(host).getHostString()).isEqualTo(host);
  }

  @Test
  @Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
  void costsNoMoreThanItsLength() {
    String colons = ":".repeat(200_000) + "x";

    assertThat(resolved(colons).getHostString()).isEqualTo(colons);
  }
}
