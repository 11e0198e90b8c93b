package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class MembersTest {
  private final List<String> closed = new ArrayList<>();

  private AutoCloseable member(String name) {
    return () -> closed.add(name);
  }

  private AutoCloseable failing(String name, Exception failure) {
    return () -> {
      closed.add(name);
      throw failure;
    };
  }

  @Test
  void closesTheOthers_whenOneFailsToClose() {
    Members members = new Members();
    IOException first = new IOException("disk");
    IllegalStateException second = new IllegalStateException("process");
    members.add(member("a"));
    members.add(failing("b", second));
    members.add(member("c"));
    members.add(failing("d", first));

    assertThatThrownBy(members::close)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("disk")
        .hasCause(first)
        .satisfies(failure -> assertThat(failure.getSuppressed()).containsExactly(second));
    assertThat(closed).containsExactly("d", "c", "b", "a");

    members.close();
    assertThat(closed).hasSize(4);
  }

  @Test
  void forgetsAMemberThatIsClosedByItself_evenIfThatFails() {
    Members members = new Members();
    AutoCloseable stale = members.add(failing("stale", new IOException("disk")));
    members.add(member("next"));

    assertThatThrownBy(() -> members.close(stale)).hasMessageContaining("disk");
    members.close(stale);
    members.close();
    assertThat(closed).containsExactly("stale", "next");
  }
}
