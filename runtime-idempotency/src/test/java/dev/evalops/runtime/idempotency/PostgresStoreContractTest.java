package dev.evalops.runtime.idempotency;

import dev.evalops.runtime.idempotency.junit.IdempotencyStoreContract;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.SQLException;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
class PostgresStoreContractTest extends IdempotencyStoreContract {
  private IdempotencyStore store;

  @BeforeEach
  void open(@Schema("dev/evalops/runtime/idempotency/idempotency.sql") DataSource db)
      throws SQLException {
    store = PostgresStore.open(db);
  }

  @Override
  protected IdempotencyStore store() {
    return store;
  }
}
