package dev.evalops.runtime.testutil;

import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import javax.sql.DataSource;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolutionException;
import org.junit.jupiter.api.extension.ParameterResolver;
import org.junit.platform.commons.support.AnnotationSupport;

/**
 * Gives each test a schema of its own on {@link PostgresServer#shared()}: {@code @ExtendWith(TestPostgres.class)}.
 *
 * <p>A parameter of type {@link DataSource}, {@link HikariDataSource} or {@link PostgresServer.TestSchema} gets it,
 * with the SQL of {@link Schema} applied; all parameters of one test, of its {@code @BeforeEach} and {@code @AfterEach}
 * methods too, get the same. After the test it is dropped. What a constructor or a {@code @BeforeAll} method asks for
 * is shared by the tests of the class. Tests may run concurrently.
 */
public final class TestPostgres implements ParameterResolver {
  private static final ExtensionContext.Namespace NAMESPACE =
      ExtensionContext.Namespace.create(TestPostgres.class);
  private static final Set<Class<?>> TYPES =
      Set.of(DataSource.class, HikariDataSource.class, PostgresServer.TestSchema.class);

  /** Made by JUnit. */
  public TestPostgres() {}

  @Override
  public boolean supportsParameter(ParameterContext parameter, ExtensionContext test) {
    return TYPES.contains(parameter.getParameter().getType());
  }

  @Override
  public Object resolveParameter(ParameterContext parameter, ExtensionContext test) {
    Prepared prepared = test.getStore(NAMESPACE)
        .computeIfAbsent(Prepared.class, key -> new Prepared(schema()), Prepared.class);
    try {
      for (String resource : resources(parameter, test)) {
        prepared.apply(resource, test.getRequiredTestClass());
      }
    } catch (SQLException e) {
      throw new ParameterResolutionException("the SQL of @Schema failed: " + e.getMessage(), e);
    }
    return parameter.getParameter().getType() == PostgresServer.TestSchema.class
        ? prepared.schema
        : prepared.schema.dataSource();
  }

  private static PostgresServer.TestSchema schema() {
    try {
      return PostgresServer.shared().schema();
    } catch (SQLException e) {
      throw new ParameterResolutionException("cannot make a schema: " + e.getMessage(), e);
    }
  }

  private static List<String> resources(ParameterContext parameter, ExtensionContext test) {
    Optional<Schema> nearest = parameter
        .findAnnotation(Schema.class)
        .or(() ->
            AnnotationSupport.findAnnotation(parameter.getDeclaringExecutable(), Schema.class))
        .or(() -> AnnotationSupport.findAnnotation(test.getElement(), Schema.class))
        .or(() -> AnnotationSupport.findAnnotation(
            test.getRequiredTestClass(), Schema.class, test.getEnclosingTestClasses()));
    return nearest.map(schema -> List.of(schema.value())).orElse(List.of());
  }

  /** A schema and what has been applied to it. The store closes it after the test. */
  private static final class Prepared implements AutoCloseable {
    private final PostgresServer.TestSchema schema;
    private final Set<String> applied = new HashSet<>();

    Prepared(PostgresServer.TestSchema schema) {
      this.schema = schema;
    }

    void apply(String resource, Class<?> testClass) throws SQLException {
      String name = resource.startsWith("/") ? resource : "/" + resource;
      if (applied.add(name)) {
        schema.apply(read(name, testClass));
      }
    }

    private static String read(String name, Class<?> testClass) {
      try (InputStream in = testClass.getResourceAsStream(name)) {
        if (in == null) {
          throw new ParameterResolutionException(
              "@Schema names " + name.substring(1) + ", which is not on the class path");
        }
        return new String(in.readAllBytes(), StandardCharsets.UTF_8);
      } catch (IOException e) {
        throw new ParameterResolutionException(
            "cannot read " + name.substring(1) + " of @Schema: " + e.getMessage(), e);
      }
    }

    @Override
    public void close() {
      schema.close();
    }
  }
}
