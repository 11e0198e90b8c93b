package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.util.List;
import java.util.stream.Stream;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class TrustedProxiesTest {
  private static final TrustedProxies PROXIES =
      TrustedProxies.of("192.0.2.0/24", "10.0.0.0/8", "fd00::/8");

  private static InetSocketAddress peer(String address) {
    try {
      return new InetSocketAddress(InetAddress.getByName(address), 1234);
    } catch (UnknownHostException e) {
      throw new IllegalArgumentException(e);
    }
  }

  private static String client(String peer, String... forwardedFor) {
    return PROXIES.client(peer(peer), List.of(forwardedFor), List.of());
  }

  static List<JsonNode> clientVectors() {
    return Vectors.cases("client_ip.json");
  }

  @ParameterizedTest
  @MethodSource("clientVectors")
  void takesWhatATrustedProxySays_asTheVectorsDo(JsonNode vector) {
    JsonNode input = vector.get("input");
    String remote = input.get("remote").stringValue();
    int port = remote.indexOf(':');
    InetSocketAddress peer =
        port < 0 ? InetSocketAddress.createUnresolved(remote, 0) : peer(remote.substring(0, port));

    String client = TrustedProxies.of("192.0.2.9")
        .client(peer, lines(input.get("xff")), lines(input.get("xri")));

    assertThat(client).isEqualTo(vector.get("expected").stringValue());
  }

  private static List<String> lines(JsonNode header) {
    return Stream.of(header.stringValue()).filter(line -> !line.isEmpty()).toList();
  }

  @Test
  void believesNobodyByDefault() {
    assertThat(TrustedProxies.none()
            .client(peer("192.0.2.9"), List.of("203.0.113.1"), List.of("203.0.113.2")))
        .isEqualTo("192.0.2.9");
  }

  @Test
  void believesNoUntrustedPeer() {
    assertThat(PROXIES.client(peer("198.51.100.1"), List.of("203.0.113.1"), List.of("203.0.113.2")))
        .isEqualTo("198.51.100.1");
  }

  @Test
  void readsFromTheRight_sinceTheLeftIsTheClients() {
    assertThat(client("10.0.0.1", "1.1.1.1, 203.0.113.7, 10.0.0.2, 10.0.0.3"))
        .isEqualTo("203.0.113.7");
  }

  @Test
  void readsAllLines_sinceAProxyMayAddOne() {
    assertThat(client("10.0.0.1", "1.1.1.1", "203.0.113.7", "10.0.0.2, 10.0.0.3"))
        .isEqualTo("203.0.113.7");
  }

  @Test
  void knowsOurProxy_whenItsAddressHasAZone() {
    TrustedProxies proxies = TrustedProxies.of("10.0.0.0/8", "fe80::/10");

    assertThat(proxies.client(
            peer("10.0.0.1"), List.of("203.0.113.7, fe80::5%eth0, [fe80::6%eth1]:443"), List.of()))
        .isEqualTo("203.0.113.7");
  }

  @Test
  void isTheFirstEntry_whenAllAreOurs() {
    assertThat(client("10.0.0.1", "10.9.9.9, 10.0.0.2")).isEqualTo("10.9.9.9");
  }

  @Test
  void isThePeer_whenTheHeadersAreBlank() {
    assertThat(PROXIES.client(peer("10.0.0.1"), List.of("", " , "), List.of(" ")))
        .isEqualTo("10.0.0.1");
  }

  @ParameterizedTest
  @CsvSource({
    "203.0.113.7:5123, 203.0.113.7",
    "[2001:db8:1:2::3]:443, 2001:db8:1:2::/64",
    "[2001:db8:1:2::3], 2001:db8:1:2::/64",
    "2001:db8:1:2::3, 2001:db8:1:2::/64",
    "::ffff:203.0.113.7, 203.0.113.7",
    "2001:db8:1:2:3:4:5:6:443, 2001:db8:1:2::/64",
    "2001:db8:1:2:3:4:5:6, 2001:db8:1:2::/64",
    "2001:db8:1:2::6:51000, 2001:db8:1:2::/64",
    "2001:db8:1:2:3:4:203.0.113.7:443, 2001:db8:1:2::/64",
    "::ffff:203.0.113.7:443, 203.0.113.7",
    "2001:db8:1:2:3:4:5:6:443443, 2001:db8:1:2:3:4:5:6:443443",
    "2001:db8:1:2:3:4:5:6:7:443, 2001:db8:1:2:3:4:5:6:7:443",
    "203.0.113.7:http, 203.0.113.7:http",
    "unknown, unknown",
    "_secret, _secret",
    "010.0.0.1, 010.0.0.1",
    "256.1.1.1, 256.1.1.1",
    "1.2.3, 1.2.3",
    "localhost, localhost",
    "fe80::1%eth0, fe80:0:0:0::/64",
    "[fe80::1%eth0]:443, fe80:0:0:0::/64",
    "[fe80::1%25eth0]:444, fe80:0:0:0::/64",
    "203.0.113.7%eth0, 203.0.113.7%eth0",
    "fe80::zz%eth0, fe80::zz%eth0",
    "2001:db8::zz, 2001:db8::zz"
  })
  void takesAnEntryForAnAddress_onlyIfItIsOne(String entry, String expected) {
    assertThat(client("10.0.0.1", entry)).isEqualTo(expected);
  }

  @Test
  void trimsAnEntryByTheRuleOfOurServices() {
    assertThat(client("10.0.0.1", "1.1.1.1,\u00a0203.0.113.7\u0085, \u00a0"))
        .isEqualTo("203.0.113.7");
    assertThat(PROXIES.client(peer("10.0.0.1"), List.of("\u00a0"), List.of("\u00a0203.0.113.7")))
        .isEqualTo("203.0.113.7");
  }

  @Test
  @Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
  void aLongEntryCostsNoMoreThanItsLength() {
    String colons = ":".repeat(64_000) + "x";

    assertThat(client("10.0.0.1", colons)).isEqualTo(colons);
    assertThat(PROXIES.client(peer("10.0.0.1"), List.of(), List.of(colons))).isEqualTo(colons);
    assertThat(client("10.0.0.1", "[" + colons + "]:80")).startsWith("[::");
    assertThat(client("10.0.0.1", "2001:0db8:0001:0002:0003:0004:255.255.255.255"))
        .isEqualTo("2001:db8:1:2::/64");
  }

  @Test
  void groupsIpv6ByTheNetworkOfACustomer() {
    assertThat(client("2001:db8:1:2:aaaa::1")).isEqualTo("2001:db8:1:2::/64");
    assertThat(client("2001:db8:1:2:bbbb::9")).isEqualTo("2001:db8:1:2::/64");
    assertThat(client("2001:db8:1:3::1")).isEqualTo("2001:db8:1:3::/64");
  }

  @Test
  void trustsByWholeBits() {
    TrustedProxies proxies = TrustedProxies.of("172.16.0.0/12", "2001:db8::/33", "1.2.3.4");

    assertThat(proxies.client(peer("172.31.255.255"), List.of("9.9.9.9"), List.of()))
        .isEqualTo("9.9.9.9");
    assertThat(proxies.client(peer("172.32.0.0"), List.of("9.9.9.9"), List.of()))
        .isEqualTo("172.32.0.0");
    assertThat(proxies.client(peer("2001:db8:7fff::1"), List.of("9.9.9.9"), List.of()))
        .isEqualTo("9.9.9.9");
    assertThat(proxies.client(peer("2001:db8:8000::1"), List.of("9.9.9.9"), List.of()))
        .isEqualTo("2001:db8:8000:0::/64");
    assertThat(proxies.client(peer("1.2.3.5"), List.of("9.9.9.9"), List.of())).isEqualTo("1.2.3.5");
    assertThat(TrustedProxies.of("0.0.0.0/0").client(peer("8.8.8.8"), List.of("x"), List.of()))
        .isEqualTo("x");
  }

  @Property
  void neverFails_whateverAProxyForwards(@ForAll String forwarded, @ForAll String real) {
    assertThat(PROXIES.client(peer("10.0.0.1"), List.of(forwarded, real), List.of(real)))
        .isNotBlank();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "proxy.local",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "fd00::/129",
        "10.0.0.1/8",
        "10.0.0.0/8/8",
        "::1%lo"
      })
  void refusesWhatIsNoNetwork(String network) {
    assertThatThrownBy(() -> TrustedProxies.of(network))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("\"" + network + "\"");
  }

  @Test
  void namesEveryProblemAtOnce() {
    assertThatThrownBy(() -> TrustedProxies.of("a", "10.0.0.0/8", "10.0.0.1/8"))
        .hasMessage(
            "trusted proxy \"a\" is no address or network such as 10.0.0.0/8 or fd00::/8; trusted"
                + " proxy \"10.0.0.1/8\" has bits set beyond /8: is the network or the length"
                + " meant?");
  }

  @Test
  void namesItsNetworks() {
    assertThat(PROXIES).hasToString("TrustedProxies[192.0.2.0/24, 10.0.0.0/8, fd00::/8]");
  }
}
