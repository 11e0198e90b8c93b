package dev.evalops.runtime.changejournal.auth;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.changejournal.ChangeActor;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ChangeActorsTest {
  @Test
  void keepsTypeIdAndOrganization() {
    Actor actor = new Actor("api_key", "k-1", "org-1", Map.of("email", "a@example.com"));
    assertThat(ChangeActors.of(actor)).isEqualTo(new ChangeActor("api_key", "k-1", "org-1"));
  }

  @Test
  void refusesWhatCannotBeStored() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ChangeActors.of(new Actor("user", "u\0", "org-1")))
        .withMessage("id must not contain NUL or half a surrogate pair");
  }
}
