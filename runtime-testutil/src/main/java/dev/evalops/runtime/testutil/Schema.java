package dev.evalops.runtime.testutil;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Inherited;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * Names the SQL that {@link TestPostgres} applies to a test's schema before the test sees it. The annotation that is
 * nearest counts: on the parameter, else on the method, else on the class.
 */
@Documented
@Inherited
@Retention(RetentionPolicy.RUNTIME)
@Target({ElementType.PARAMETER, ElementType.METHOD, ElementType.TYPE})
public @interface Schema {
  /**
   * Class path resources with SQL in UTF-8, applied in this order, each once per schema.
   *
   * @return names from the root of the class path, such as {@code schema.sql}
   */
  String[] value();
}
