package dev.evalops.runtime.testutil;

import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * Gives each test that has a parameter of type {@link NatsServer} a server of its own, started for it (some 20 ms) and
 * stopped after it: {@code @ExtendWith(TestNats.class)}. So no test sees the streams, consumers or messages of another,
 * and each may kill its server.
 *
 * <p>All parameters of one test, of its {@code @BeforeEach} and {@code @AfterEach} methods too, get the same. What a
 * constructor or a {@code @BeforeAll} method asks for is shared by the tests of the class. Tests may run concurrently.
 *
 * <p>When {@code TEST_NATS_URL} is set, every test gets that server instead, as it is.
 */
public final class TestNats implements ParameterResolver {
  private static final ExtensionContext.Namespace NAMESPACE =
      ExtensionContext.Namespace.create(TestNats.class);

  /** Made by JUnit. */
  public TestNats() {}

  @Override
  public boolean supportsParameter(ParameterContext parameter, ExtensionContext test) {
    return parameter.getParameter().getType() == NatsServer.class;
  }

  @Override
  public Object resolveParameter(ParameterContext parameter, ExtensionContext test) {
    return test.getStore(NAMESPACE)
        .computeIfAbsent(
            NatsServer.class,
            key -> Host.current().named("TEST_NATS_URL").isPresent()
                ? NatsServer.shared()
                : NatsServer.start(),
            NatsServer.class);
  }
}
