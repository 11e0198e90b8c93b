package dev.evalops.runtime.testutil;

import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * Gives each test that has a parameter of type {@link RedisServer} a server of its own, started for it (some 20 ms) and
 * stopped after it: {@code @ExtendWith(TestRedis.class)}. So no test sees the keys, subscribers or settings of another,
 * and each may kill its server.
 *
 * <p>All parameters of one test, of its {@code @BeforeEach} and {@code @AfterEach} methods too, get the same. What a
 * constructor or a {@code @BeforeAll} method asks for is shared by the tests of the class. Tests may run concurrently.
 *
 * <p>When {@code TEST_REDIS_URL} is set, every test gets that server instead, as it is.
 */
public final class TestRedis implements ParameterResolver {
  private static final ExtensionContext.Namespace NAMESPACE =
      ExtensionContext.Namespace.create(TestRedis.class);

  /** Made by JUnit. */
  public TestRedis() {}

  @Override
  public boolean supportsParameter(ParameterContext parameter, ExtensionContext test) {
    return parameter.getParameter().getType() == RedisServer.class;
  }

  @Override
  public Object resolveParameter(ParameterContext parameter, ExtensionContext test) {
    return test.getStore(NAMESPACE)
        .computeIfAbsent(
            RedisServer.class,
            key -> Host.current().named("TEST_REDIS_URL").isPresent()
                ? RedisServer.shared()
                : RedisServer.start(),
            RedisServer.class);
  }
}
