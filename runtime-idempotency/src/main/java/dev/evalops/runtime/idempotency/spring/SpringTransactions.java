package dev.evalops.runtime.idempotency.spring;

import dev.evalops.runtime.idempotency.Transactions;
import java.sql.Connection;
import java.util.Objects;
import javax.sql.DataSource;
import org.springframework.jdbc.datasource.DataSourceUtils;
import org.springframework.jdbc.datasource.TransactionAwareDataSourceProxy;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.TransactionStatus;
import org.springframework.transaction.support.DefaultTransactionDefinition;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/**
 * Lets Spring own the transaction of a request: what the handler does in {@code @Transactional} methods, with a {@code
 * JdbcClient} or with JPA commits together with the key and the answer, and {@code AFTER_COMMIT} listeners run when all
 * of it has.
 *
 * <pre>{@code
 * Idempotency idempotency = Idempotency.builder(db)
 *     .transactions(SpringTransactions.of(manager, db))
 *     .build();
 * }</pre>
 *
 * <p>Thread-safe.
 */
public final class SpringTransactions {
  private SpringTransactions() {}

  /**
   * Returns transactions of a transaction manager. They belong to the thread of the request, so a handler behind the
   * filter cannot answer asynchronously.
   *
   * @param manager the manager of {@code db}: a {@code DataSourceTransactionManager}, {@code JdbcTransactionManager} or
   *     {@code JpaTransactionManager}
   * @param db the data source that the manager works on
   * @return the transactions; a request fails with 500 if the manager is that of another data source
   */
  public static Transactions of(PlatformTransactionManager manager, DataSource db) {
    Objects.requireNonNull(manager, "manager");
    Objects.requireNonNull(db, "db");
    DataSource own = db instanceof TransactionAwareDataSourceProxy proxy
        ? Objects.requireNonNull(proxy.getTargetDataSource(), "db")
        : db;
    return () -> {
      TransactionStatus status = manager.getTransaction(new DefaultTransactionDefinition());
      if (!status.isNewTransaction()) {
        throw new IllegalStateException(
            "a transaction is open already, which would not commit with the key: begin none in front of the filter");
      }
      if (!TransactionSynchronizationManager.hasResource(own)) {
        manager.rollback(status);
        throw new IllegalStateException(
            "db must be the data source of the transaction manager: " + db);
      }
      return new OfSpring(manager, own, status);
    };
  }

  private record OfSpring(
      PlatformTransactionManager manager, DataSource db, TransactionStatus status)
      implements Transactions.Transaction {

    @Override
    public Connection connection() {
      Connection connection = DataSourceUtils.getConnection(db);
      DataSourceUtils.releaseConnection(connection, db); // counted; the transaction keeps it
      return connection;
    }

    @Override
    public void commit() {
      manager.commit(status);
    }

    @Override
    public void rollback() {
      manager.rollback(status);
    }
  }
}
