package dev.evalops.runtime.mtls;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CertificateIdentityTest {
  private final TestCa authority = TestCa.create();

  private List<CertificateIdentity> of(TestCa.Request request) {
    return CertificateIdentity.of(request.issue().leaf());
  }

  @Test
  void listsCommonNameDnsNamesUrisAndEmails_inThisOrder_withoutRepeats() {
    assertThat(of(authority
            .request("CN=billing,O=Acme", Keys.ec())
            .email("ops@acme.example")
            .uri("spiffe://prod/billing")
            .dns("billing.internal")
            .address("10.0.0.1")
            .dns("Billing.internal")
            .dns("billing")
            .uri("spiffe://prod/billing")))
        .containsExactly(
            CertificateIdentity.commonName("billing"),
            CertificateIdentity.dns("billing.internal"),
            CertificateIdentity.dns("billing"),
            CertificateIdentity.uri("spiffe://prod/billing"),
            CertificateIdentity.email("ops@acme.example"));
  }

  @Test
  void takesTheMostSpecificCommonName_andUnescapesIt() {
    assertThat(of(authority.request("CN=a\\, b\\+c,OU=x,CN=outer", Keys.ec())))
        .containsExactly(CertificateIdentity.commonName("a, b+c"));
    assertThat(of(authority.request("OU=x+CN=multi,O=Acme", Keys.ec())))
        .containsExactly(CertificateIdentity.commonName("multi"));
    assertThat(of(authority.request("O=Acme", Keys.ec()))).isEmpty();
  }

  @Test
  void isNotFooledByACommonNameWithinAnotherAttribute() {
    assertThat(of(authority.request("O=\"x, CN=admin\",CN=user", Keys.ec())))
        .containsExactly(CertificateIdentity.commonName("user"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"spiffe://a b/c", "no-scheme", "http://[", "spiffe://ab/\u00e9", "", ":"})
  void aNameThatIsNoneHidesNoOther(String uri) {
    assertThat(of(authority
            .request("CN=billing", Keys.ec())
            .dns("Billing.internal")
            .uri(uri)
            .uri("spiffe://prod/billing")
            .email("ops@acme.example")
            .dns("a\u0000b")
            .dns("my_host.internal")))
        .containsExactly(
            CertificateIdentity.commonName("billing"),
            CertificateIdentity.dns("billing.internal"),
            CertificateIdentity.dns("my_host.internal"),
            CertificateIdentity.uri("spiffe://prod/billing"),
            CertificateIdentity.email("ops@acme.example"));
  }

  @Test
  void aBlankNameHidesNoOther() {
    assertThat(of(authority.request("CN=\u00a0", Keys.ec()).dns("billing.internal")))
        .containsExactly(CertificateIdentity.dns("billing.internal"));
  }

  @Test
  void keepsKindsApart() {
    assertThat(CertificateIdentity.dns("svc.internal"))
        .isNotEqualTo(CertificateIdentity.commonName("svc.internal"))
        .isNotEqualTo(CertificateIdentity.email("svc.internal"))
        .isEqualTo(CertificateIdentity.dns("SVC.internal"));
    assertThat(CertificateIdentity.uri("spiffe://Prod"))
        .isNotEqualTo(CertificateIdentity.uri("spiffe://prod"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "cn:billing",
        "dns:svc.internal",
        "uri:spiffe://prod/ns/a:b",
        "email:ops@acme.example"
      })
  void parsesWhatItPrints(String text) {
    assertThat(CertificateIdentity.parse(" " + text + "\n")).hasToString(text);
    assertThat(
            CertificateIdentity.parse("\u00a0" + text.replace("cn:", "cn\u0085:\u2007") + "\u202f"))
        .hasToString(text);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "svc.internal",
        "dns:",
        "dns: ",
        "dns:\u00a0\u0085",
        ":svc",
        "DNS:svc",
        "ip:10.0.0.1"
      })
  void refusesAnIdentityWithoutKindOrValue(String text) {
    assertThatIllegalArgumentException().isThrownBy(() -> CertificateIdentity.parse(text));
  }
}
