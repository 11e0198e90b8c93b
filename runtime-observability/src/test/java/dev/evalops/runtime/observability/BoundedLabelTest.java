package dev.evalops.runtime.observability;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.micrometer.core.instrument.Tag;
import org.junit.jupiter.api.Test;

class BoundedLabelTest {
  private final BoundedLabel provider = BoundedLabel.of("provider", "stripe", "adyen");

  @Test
  void keepsItsValues_andMakesOtherOfEverythingElse() {
    assertThat(provider.tag("stripe")).isEqualTo(Tag.of("provider", "stripe"));
    for (String unknown : new String[] {"paypal", "Stripe", "", " ", null}) {
      assertThat(provider.tag(unknown)).isEqualTo(Tag.of("provider", "other"));
    }
  }

  @Test
  void refusesBlanks() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> BoundedLabel.of(" ", "a"))
        .withMessageStartingWith("name ");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> BoundedLabel.of("a", "b", ""))
        .withMessageStartingWith("values ");
  }
}
