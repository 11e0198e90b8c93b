package dev.evalops.runtime.mtls;

import static org.assertj.core.api.Assertions.assertThatNoException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.NullAndEmptySource;
import org.junit.jupiter.params.provider.ValueSource;

class ServerNameTest {
  private static final TestCa CA = TestCa.create();

  private static X509Certificate dns(String... names) {
    TestCa.Request request = CA.request("CN=by.common.name", Keys.ec());
    for (String name : names) {
      request.dns(name);
    }
    return request.issue().leaf();
  }

  private static X509Certificate address(String address) {
    return CA.request("CN=by.common.name", Keys.ec()).address(address).issue().leaf();
  }

  @ParameterizedTest
  @CsvSource({
    "svc.internal, svc.internal",
    "SVC.internal, svc.Internal",
    "svc.internal, svc.internal.",
    "localhost, localhost",
    "*.internal, svc.internal",
    "*.prod.internal, svc.prod.internal",
    "xn--bcher-kva.example, xn--bcher-kva.example"
  })
  void acceptsTheName(String certified, String host) {
    assertThatNoException().isThrownBy(() -> ServerName.check(dns("other", certified), host));
  }

  @ParameterizedTest
  @CsvSource({
    "svc.internal, other.internal",
    "svc.internal, svc.internal.evil",
    "svc.internal, evil-svc.internal",
    "svc.internal, internal",
    "*.internal, internal",
    "*.internal, .internal",
    "*.internal, a.b.internal",
    "*, localhost",
    "s*.internal, svc.internal",
    "svc.*.internal, svc.prod.internal",
    "*.*.internal, svc.prod.internal",
    "svc.internal, by.common.name",
    "10.0.0.1, 10.0.0.1"
  })
  void refusesAnotherName(String certified, String host) {
    assertThatThrownBy(() -> ServerName.check(dns(certified), host))
        .isInstanceOf(CertificateException.class)
        .hasMessageContaining(host);
  }

  @ParameterizedTest
  @ValueSource(strings = {"spiffe://a b/c", "no-scheme", "http://[", "spiffe://ab/\u00e9", "", ":"})
  void aBadUriHidesNoOtherName(String uri) {
    X509Certificate leaf = CA.request("CN=by.common.name", Keys.ec())
        .dns("first.internal")
        .address("10.0.0.1")
        .address("2001:db8::1")
        .uri(uri)
        .dns("*.svc.internal")
        .issue()
        .leaf();
    for (String host : List.of("first.internal", "a.svc.internal", "10.0.0.1", "2001:db8::1")) {
      assertThatNoException().as(host).isThrownBy(() -> ServerName.check(leaf, host));
    }
    for (String host : List.of("other.internal", "by.common.name", "10.0.0.2")) {
      assertThatThrownBy(() -> ServerName.check(leaf, host))
          .as(host)
          .isInstanceOf(CertificateException.class);
    }
  }

  @Test
  void refusesACertificateWithoutNames_whateverItsCommonName() {
    assertThatThrownBy(() -> ServerName.check(dns(), "by.common.name"))
        .isInstanceOf(CertificateException.class);
  }

  @ParameterizedTest
  @CsvSource({
    "10.0.0.1, 10.0.0.1",
    "2001:db8::1, 2001:db8::1",
    "2001:db8::1, 2001:0DB8:0:0:0:0:0:1",
    "2001:db8::1, [2001:db8::1]"
  })
  void acceptsTheAddress(String certified, String host) {
    assertThatNoException().isThrownBy(() -> ServerName.check(address(certified), host));
  }

  @ParameterizedTest
  @CsvSource({
    "10.0.0.1, 10.0.0.2",
    "10.0.0.1, localhost",
    "2001:db8::1, 2001:db8::2",
    "10.0.0.1, 2001:db8::1"
  })
  void refusesAnotherAddress(String certified, String host) {
    assertThatThrownBy(() -> ServerName.check(address(certified), host))
        .isInstanceOf(CertificateException.class);
  }

  @ParameterizedTest
  @NullAndEmptySource
  void refusesEveryCertificate_whenTheNameIsNotKnown(String host) {
    assertThatThrownBy(() -> ServerName.check(dns("svc.internal"), host))
        .isInstanceOf(CertificateException.class)
        .hasMessageContaining("not known");
  }
}
