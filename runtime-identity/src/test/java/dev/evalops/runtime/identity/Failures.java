package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import dev.evalops.runtime.identity.IdentityException.Reason;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;

/** What a call fails with. */
final class Failures {
  private Failures() {}

  static IdentityException failure(ThrowingCallable call) {
    IdentityException failure = catchThrowableOfType(IdentityException.class, call);
    assertThat(failure).as("the failure").isNotNull();
    return failure;
  }

  static Reason reason(ThrowingCallable call) {
    return failure(call).reason();
  }
}
