package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.google.protobuf.Message;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.BufferedReader;
import java.io.File;
import java.sql.Connection;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.postgresql.Driver;
import tools.jackson.core.JsonParser;
import tools.jackson.databind.json.JsonMapper;

/** In a JVM whose class path has what a service gets with this module, and the driver. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
@Timeout(60)
class WithoutProtobufTest {
  private static final String CLASS_PATH = Child.classPathOf(
      ChangeJournal.class,
      OneWriter.class,
      JsonMapper.class,
      JsonParser.class,
      JsonProperty.class,
      Driver.class);

  @Test
  void writesAnythingElse_withoutProtobuf(HikariDataSource db) throws Exception {
    assertThat(said(CLASS_PATH, db, "record")).isEqualTo("wrote 1");
    try (Connection connection = db.getConnection()) {
      assertThat(Rows.column(connection, "SELECT aggregate_version FROM change_journal"))
          .containsExactly("3");
    }
  }

  @Test
  void saysWhatIsMissing_withoutTheJsonOfProtobuf(HikariDataSource db) throws Exception {
    String classPath = CLASS_PATH + File.pathSeparator + Child.classPathOf(Message.class);
    assertThat(said(classPath, db, "message"))
        .isEqualTo(
            "marshal_change_payload: a protobuf payload needs protobuf-java-util on the class path");
    assertThat(said(classPath, db, "record")).startsWith("wrote ");
    assertThat(Rows.count(db, "change_journal")).isEqualTo(1);
  }

  private static String said(String classPath, HikariDataSource db, String kind) throws Exception {
    Process child = Child.start(OneWriter.class, classPath, db, kind);
    try (BufferedReader output = child.inputReader()) {
      return output.lines().collect(Collectors.joining("\n"));
    } finally {
      child.destroyForcibly().waitFor();
    }
  }
}
