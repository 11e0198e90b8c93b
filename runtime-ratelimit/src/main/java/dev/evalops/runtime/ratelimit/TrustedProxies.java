package dev.evalops.runtime.ratelimit;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Finds the address of the client behind proxies. What a peer says in {@code X-Forwarded-For} or {@code X-Real-Ip}
 * counts only if the peer is one of ours: anybody else would choose an address, and so a rate limit, of their own.
 *
 * <pre>{@code
 * TrustedProxies proxies = TrustedProxies.of("10.0.0.0/8", "fd00::/8");
 * RateLimiter.builder().trustedProxies(proxies)
 * }</pre>
 *
 * <p>Immutable and thread-safe. No name is ever looked up.
 */
public final class TrustedProxies {
  private static final TrustedProxies NONE = new TrustedProxies(List.of());
  private static final Pattern WITH_PORT = Pattern.compile("([0-9a-fA-F:.]{1,45}):\\d{1,5}");
  private static final Pattern IPV6_IN_BRACKETS = Pattern.compile("\\[([^\\]]+)\\](?::\\d{1,5})?");
  private static final Pattern IPV4 = Pattern.compile(
      "(0|[1-9]\\d{0,2})\\.(0|[1-9]\\d{0,2})\\.(0|[1-9]\\d{0,2})\\.(0|[1-9]\\d{0,2})");
  private static final Pattern IPV6 = Pattern.compile("[0-9a-fA-F:]*:[0-9a-fA-F:.]*");

  /**
   * Eight groups, the last two of them as an IPv4 address. What is longer is not matched: that takes its time squared.
   */
  private static final int MAX_ADDRESS = 45;

  private final List<Network> networks;

  private TrustedProxies(List<Network> networks) {
    this.networks = networks;
  }

  /**
   * Trusts nobody: the client is the peer.
   *
   * @return the same as {@code of()}
   */
  public static TrustedProxies none() {
    return NONE;
  }

  /**
   * Trusts the peers in these networks.
   *
   * @param networks addresses ({@code 10.1.2.3}, {@code fd00::1}) or networks ({@code 10.0.0.0/8}, {@code fd00::/8})
   * @return the proxies
   * @throws IllegalArgumentException if some are not of this form; the message names each of them
   */
  public static TrustedProxies of(String... networks) {
    List<Network> parsed = new ArrayList<>();
    List<String> problems = new ArrayList<>();
    for (String network : networks) {
      try {
        parsed.add(Network.parse(Objects.requireNonNull(network, "networks")));
      } catch (IllegalArgumentException e) {
        problems.add(e.getMessage());
      }
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
    return new TrustedProxies(List.copyOf(parsed));
  }

  /**
   * The client of a request, as {@link #client(InetSocketAddress, List, List)} finds it.
   *
   * @param exchange the request
   * @return the client, for example {@code 192.0.2.9}; empty if the server does not know the peer
   */
  public Optional<String> client(HttpExchange exchange) {
    InetSocketAddress peer = exchange.getRemoteAddress();
    if (peer == null) {
      return Optional.empty();
    }
    if (networks.isEmpty()) {
      return Optional.of(group(peer));
    }
    Headers headers = exchange.getRequestHeaders();
    return Optional.of(
        client(peer, lines(headers, "X-Forwarded-For"), lines(headers, "X-Real-Ip")));
  }

  private static List<String> lines(Headers headers, String name) {
    List<String> lines = headers.get(name);
    return lines == null ? List.of() : lines;
  }

  /**
   * The client of a request. If the peer is trusted, it is the last entry of {@code X-Forwarded-For} that is no trusted
   * address itself, read from the right over all lines, or the first entry if all are; without entries it is the last
   * {@code X-Real-Ip}. Otherwise it is the peer. Ports and zones ({@code fe80::1%eth0}) are dropped. An entry that is
   * no address is taken as it is: a trusted proxy has written it.
   *
   * @param peer the other end of the connection
   * @param forwardedFor the lines of {@code X-Forwarded-For}, in their order; empty if there are none
   * @param realIp the lines of {@code X-Real-Ip}, in their order; empty if there are none
   * @return an IPv4 address, the /64 network of an IPv6 address ({@code 2001:db8:0:1::/64}), which is what one customer
   *     has, or what the proxy or the socket calls the peer instead
   */
  public String client(InetSocketAddress peer, List<String> forwardedFor, List<String> realIp) {
    InetAddress address = peer.getAddress();
    if (address == null || !isTrusted(address)) {
      return group(peer);
    }
    String client = null;
    for (int line = forwardedFor.size() - 1; line >= 0; line--) {
      String[] entries = forwardedFor.get(line).split(",", -1);
      for (int i = entries.length - 1; i >= 0; i--) {
        String entry = Text.trim(entries[i]);
        if (!entry.isEmpty()) {
          InetAddress hop = parseEntry(entry);
          client = hop == null ? entry : group(hop);
          if (hop == null || !isTrusted(hop)) {
            return client;
          }
        }
      }
    }
    for (int line = realIp.size() - 1; line >= 0 && client == null; line--) {
      String entry = Text.trim(realIp.get(line));
      if (!entry.isEmpty()) {
        InetAddress real = parseEntry(entry);
        client = real == null ? entry : group(real);
      }
    }
    return client == null ? group(peer) : client;
  }

  private boolean isTrusted(InetAddress address) {
    byte[] bytes = address.getAddress();
    for (Network network : networks) {
      if (network.contains(bytes)) {
        return true;
      }
    }
    return false;
  }

  private static String group(InetSocketAddress peer) {
    InetAddress address = peer.getAddress();
    return address == null ? peer.getHostString() : group(address);
  }

  private static String group(InetAddress address) {
    if (!(address instanceof Inet6Address)) {
      return address.getHostAddress();
    }
    byte[] bytes = address.getAddress();
    StringBuilder network = new StringBuilder(24);
    for (int i = 0; i < 8; i += 2) {
      network
          .append(Integer.toHexString((bytes[i] & 0xFF) << 8 | (bytes[i + 1] & 0xFF)))
          .append(':');
    }
    return network.append(":/64").toString();
  }

  /** Null if the text is no address, with a zone and a port or without. */
  private static @Nullable InetAddress parseEntry(String entry) {
    Matcher brackets = IPV6_IN_BRACKETS.matcher(entry);
    if (brackets.matches()) {
      return parse(withoutZone(brackets.group(1)));
    }
    InetAddress whole = parse(withoutZone(entry));
    Matcher port = WITH_PORT.matcher(entry);
    // Where an IPv6 address without brackets may be read with or without a port, its network is the
    // same.
    return whole == null && port.matches() ? parse(port.group(1)) : whole;
  }

  private static String withoutZone(String address) {
    int zone = address.indexOf('%');
    boolean ipv6 = zone > 0 && address.lastIndexOf(':', zone) >= 0;
    return ipv6 ? address.substring(0, zone) : address;
  }

  /** Null if the text is no address. */
  private static @Nullable InetAddress parse(String text) {
    if (text.length() > MAX_ADDRESS) {
      return null;
    }
    Matcher v4 = IPV4.matcher(text);
    try {
      if (v4.matches()) {
        byte[] bytes = new byte[4];
        for (int i = 0; i < 4; i++) {
          int value = Integer.parseInt(v4.group(i + 1));
          if (value > 255) {
            return null;
          }
          bytes[i] = (byte) value;
        }
        return InetAddress.getByAddress(bytes);
      }
      // What stands in brackets is never looked up.
      return IPV6.matcher(text).matches() ? InetAddress.getByName("[" + text + "]") : null;
    } catch (UnknownHostException invalid) {
      return null;
    }
  }

  /** Names the networks. */
  @Override
  public String toString() {
    return "TrustedProxies" + networks;
  }

  private static final class Network {
    private final String text;
    private final byte[] address;
    private final int bits;

    private Network(String text, byte[] address, int bits) {
      this.text = text;
      this.address = address;
      this.bits = bits;
    }

    static Network parse(String text) {
      int slash = text.indexOf('/');
      InetAddress address = TrustedProxies.parse(slash < 0 ? text : text.substring(0, slash));
      if (address == null) {
        throw new IllegalArgumentException("trusted proxy \"" + text
            + "\" is no address or network such as 10.0.0.0/8 or fd00::/8");
      }
      byte[] bytes = address.getAddress();
      int all = bytes.length * 8;
      String length = slash < 0 ? Integer.toString(all) : text.substring(slash + 1);
      if (!length.matches("\\d{1,3}") || Integer.parseInt(length) > all) {
        throw new IllegalArgumentException(
            "trusted proxy \"" + text + "\" must end in a number of bits from /0 to /" + all);
      }
      Network network = new Network(text, bytes, Integer.parseInt(length));
      for (int bit = network.bits; bit < all; bit++) {
        if ((bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
          throw new IllegalArgumentException("trusted proxy \"" + text + "\" has bits set beyond /"
              + length + ": is the network or the length meant?");
        }
      }
      return network;
    }

    boolean contains(byte[] other) {
      if (other.length != address.length) {
        return false;
      }
      int whole = bits / 8;
      for (int i = 0; i < whole; i++) {
        if (other[i] != address[i]) {
          return false;
        }
      }
      int rest = bits % 8;
      return rest == 0 || (other[whole] ^ address[whole]) >> (8 - rest) == 0;
    }

    @Override
    public String toString() {
      return text;
    }
  }
}
