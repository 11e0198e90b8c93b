package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

/** The statements of the README, as they are there. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class JournalReaderTest {
  @BeforeEach
  void notes(DataSource db) throws SQLException {
    Rows.execute(db, "CREATE TABLE notes (id int)");
  }

  @Test
  void waitsForTheTransactionThatTookItsNumberFirst(HikariDataSource db) throws Exception {
    Reader reader = new Reader();
    try (Connection polls = db.getConnection();
        Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      // The hard case: the slow one took the smaller number, and its transaction began to write
      // later.
      Rows.execute(fast, "INSERT INTO notes VALUES (1)");
      Rows.execute(slow, "INSERT INTO notes VALUES (2)");
      long first = write(slow);
      long second = write(fast);
      fast.commit();

      assertThat(numbers(polls, "SELECT seq FROM change_journal WHERE seq > 0"))
          .as("what a reader by seq alone goes on from")
          .containsExactly(second);
      assertThat(reader.poll(polls)).isEmpty();
      assertThat(reader.poll(polls)).isEmpty();

      slow.commit();
      assertThat(reader.poll(polls)).containsExactly(first, second);
      assertThat(reader.poll(polls)).isEmpty();
    }
  }

  @Test
  void waitsForATransactionThatHasWrittenNothingBefore(HikariDataSource db) throws Exception {
    Reader reader = new Reader();
    try (Connection polls = db.getConnection();
        Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      long first = write(slow);
      long second = write(fast);
      fast.commit();
      assertThat(reader.poll(polls)).isEmpty();
      long third = write(slow);
      slow.rollback();
      assertThat(reader.poll(polls)).containsExactly(second);

      assertThat(List.of(first, third)).doesNotContain(second);
      assertThat(reader.poll(polls)).isEmpty();
      long fourth = write(fast);
      fast.commit();
      assertThat(reader.poll(polls)).containsExactly(fourth);
    }
  }

  @Test
  @Timeout(60)
  void readsEveryChangeOnce_whileManyWrite(HikariDataSource db) throws Exception {
    assertThat(readsAll(db, 4, 40)).isEqualTo(4 * 30);
  }

  @Test
  @Tag("soak")
  void readsEveryChangeOnce_whileManyWrite_soak(HikariDataSource db) throws Exception {
    int read = readsAll(db, 8, 1000);
    assertThat(read).isEqualTo(8 * 750);
    System.out.printf(
        "changejournal: 8 writers, 8000 transactions, 2000 of them rolled back, %d changes read, none lost, none twice%n",
        read);
  }

  private static int readsAll(HikariDataSource db, int writers, int transactions) throws Exception {
    Set<Long> written = new ConcurrentSkipListSet<>();
    Reader reader = new Reader();
    List<Long> read = new ArrayList<>();
    try (ExecutorService service = Executors.newFixedThreadPool(writers);
        Connection polls = db.getConnection()) {
      Callable<Void> writer = () -> {
        try (Connection tx = Tx.begin(db)) {
          for (int i = 0; i < transactions; i++) {
            if (i % 2 == 0) {
              Rows.execute(tx, "INSERT INTO notes VALUES (1)");
            }
            Rows.execute(tx, "SELECT pg_sleep(random() * 0.003)");
            long sequence = write(tx);
            Rows.execute(tx, "SELECT pg_sleep(random() * 0.003)");
            if (i % 4 == 3) {
              tx.rollback();
            } else {
              tx.commit();
              written.add(sequence);
            }
          }
        }
        return null;
      };
      List<Future<Void>> writing = new ArrayList<>();
      for (int i = 0; i < writers; i++) {
        writing.add(service.submit(writer));
      }
      while (writing.stream().anyMatch(future -> !future.isDone())) {
        read.addAll(reader.poll(polls));
      }
      for (Future<Void> future : writing) {
        future.get(0, TimeUnit.SECONDS);
      }
      await().atMost(Duration.ofSeconds(20)).until(() -> {
        read.addAll(reader.poll(polls));
        return read.size() >= written.size();
      });
    }
    assertThat(read).containsExactlyElementsOf(written);
    return read.size();
  }

  private static long write(Connection tx) throws SQLException {
    return ChangeJournal.write(tx, Tx.ACTOR, "note", "1", "update", null, Map.of());
  }

  private static List<Long> numbers(Connection connection, String sql, Object... arguments)
      throws SQLException {
    List<Long> numbers = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < arguments.length; i++) {
        statement.setObject(i + 1, arguments[i]);
      }
      try (ResultSet result = statement.executeQuery()) {
        while (result.next()) {
          numbers.add(result.getLong("seq"));
        }
      }
    }
    return numbers;
  }

  /** Reads with what the README says. */
  private static final class Reader {
    private final List<String> statements = fromReadme();
    private Optional<Look> pending = Optional.empty();
    private long last;

    private record Look(long high, String fence) {}

    List<Long> poll(Connection connection) throws SQLException {
      if (pending.isEmpty()) {
        pending = look(connection);
      }
      if (pending.isEmpty() || !ended(connection, pending.get().fence())) {
        return List.of();
      }
      long high = pending.get().high();
      List<Long> rows = numbers(connection, statements.get(2), last, high);
      last = high;
      pending = Optional.empty();
      return rows;
    }

    private Optional<Look> look(Connection connection) throws SQLException {
      try (PreparedStatement statement = connection.prepareStatement(statements.get(0))) {
        statement.setLong(1, last);
        try (ResultSet result = statement.executeQuery()) {
          return result.next()
              ? Optional.of(new Look(result.getLong("high"), result.getString("fence")))
              : Optional.empty();
        }
      }
    }

    private boolean ended(Connection connection, String fence) throws SQLException {
      try (PreparedStatement statement = connection.prepareStatement(statements.get(1))) {
        statement.setString(1, fence);
        try (ResultSet result = statement.executeQuery()) {
          return result.next() && result.getBoolean("ended");
        }
      }
    }

    private static List<String> fromReadme() {
      try {
        List<String> statements = Pattern.compile("```sql\n(.*?)```", Pattern.DOTALL)
            .matcher(Files.readString(Path.of("README.md")))
            .results()
            .map(block -> block.group(1))
            .toList();
        assertThat(statements).as("SQL in README.md").hasSize(3);
        return statements;
      } catch (IOException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
