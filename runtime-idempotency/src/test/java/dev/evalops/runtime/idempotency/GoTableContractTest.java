package dev.evalops.runtime.idempotency;

import dev.evalops.runtime.idempotency.junit.IdempotencyStoreContract;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.SQLException;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.extension.ExtendWith;

/** On a table that a service in Go has made. */
@ExtendWith(TestPostgres.class)
class GoTableContractTest extends IdempotencyStoreContract {
  private IdempotencyStore store;

  @BeforeEach
  void open(@Schema("go-table.sql") DataSource db) throws SQLException {
    store = PostgresStore.open(db);
  }

  @Override
  protected IdempotencyStore store() {
    return store;
  }

  @Override
  protected boolean keepsHeaders() {
    return false;
  }
}
