package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static dev.evalops.runtime.idempotency.Services.post;
import static dev.evalops.runtime.testutil.TestHttp.assertError;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.spring.SpringTransactions;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import jakarta.persistence.Entity;
import jakarta.persistence.EntityManager;
import jakarta.persistence.EntityManagerFactory;
import jakarta.persistence.Id;
import jakarta.persistence.Table;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.springframework.dao.DataAccessException;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.jdbc.datasource.TransactionAwareDataSourceProxy;
import org.springframework.jdbc.support.JdbcTransactionManager;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;
import org.springframework.orm.jpa.SharedEntityManagerCreator;
import org.springframework.orm.jpa.vendor.HibernateJpaVendorAdapter;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionTemplate;

@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class SpringTransactionsTest {
  private final AtomicInteger runs = new AtomicInteger();
  private final List<LocalContainerEntityManagerFactoryBean> factories = new ArrayList<>();
  private HikariDataSource db;
  private PlatformTransactionManager manager;
  private JdbcClient jdbc;
  private HttpService service;

  /** As the table effects. */
  @Entity
  @Table(name = "effects")
  static class Effect {
    @Id
    UUID id;

    String key;

    Effect() {}

    Effect(UUID id) {
      this.id = id;
      this.key = "jpa";
    }
  }

  @BeforeEach
  void setUp(HikariDataSource db) {
    this.db = db;
    manager = new JdbcTransactionManager(db);
    jdbc = JdbcClient.create(db);
  }

  @AfterEach
  void tearDown() {
    service.close();
    factories.forEach(LocalContainerEntityManagerFactoryBean::destroy);
  }

  private void start(HttpService.Handler handler) {
    service = Services.serve(
        Idempotency.builder(db).transactions(SpringTransactions.of(manager, db)).build(),
        exchange -> {
          runs.incrementAndGet();
          handler.serve(exchange);
        });
  }

  private EntityManager jpa() {
    LocalContainerEntityManagerFactoryBean factory = new LocalContainerEntityManagerFactoryBean();
    factory.setDataSource(db);
    factory.setPersistenceUnitName("effects");
    factory.setPackagesToScan(SpringTransactionsTest.class.getPackageName());
    factory.setJpaVendorAdapter(new HibernateJpaVendorAdapter());
    factory.afterPropertiesSet();
    factories.add(factory);
    EntityManagerFactory entities = factory.getObject();
    manager = new JpaTransactionManager(entities);
    return SharedEntityManagerCreator.createSharedEntityManager(entities);
  }

  /** As a method with {@code @Transactional}. */
  private void transactional(int propagation, Runnable work) {
    TransactionTemplate template = new TransactionTemplate(manager);
    template.setPropagationBehavior(propagation);
    template.executeWithoutResult(status -> work.run());
  }

  private void transactional(Runnable work) {
    transactional(TransactionDefinition.PROPAGATION_REQUIRED, work);
  }

  private UUID insert() {
    UUID id = UUID.randomUUID();
    insert(id);
    return id;
  }

  private void insert(UUID id) {
    jdbc.sql("INSERT INTO effects (id, key) VALUES (?, 'jdbc')").param(id).update();
  }

  private static void insert(Connection transaction, UUID id) throws SQLException {
    try (PreparedStatement insert =
        transaction.prepareStatement("INSERT INTO effects (id, key) VALUES (?, 'wrapped')")) {
      insert.setObject(1, id);
      insert.executeUpdate();
    }
  }

  private int effects() throws Exception {
    return query(db, "SELECT id FROM effects").size();
  }

  private List<String> keys() throws Exception {
    return query(
        db, "SELECT response_code FROM api_idempotency_keys WHERE response_code IS NOT NULL");
  }

  /** But for a moment by the removal of expired keys. */
  private void assertNoConnectionIsHeld() {
    await()
        .atMost(Duration.ofSeconds(20))
        .until(() -> db.getHikariPoolMXBean().getActiveConnections() == 0);
  }

  @Test
  void commitsTheWorkTheKeyAndTheAnswerTogether_andReplays() throws Exception {
    AtomicReference<String> seenFromOutside = new AtomicReference<>();
    start(exchange -> {
      transactional(this::insert);
      try {
        seenFromOutside.set(effects() + " " + keys());
      } catch (Exception e) {
        throw new AssertionError(e);
      }
      HttpResponses.json(exchange, 201, Map.of("run", runs.get()));
    });

    HttpResponse<String> first = post(service, "/v1", "k", "{}");
    HttpResponse<String> again = post(service, "/v1", "k", "{}");

    assertThat(first.statusCode()).isEqualTo(201);
    assertThat(seenFromOutside).hasValue("0 []");
    assertThat(isReplay(again)).isTrue();
    assertThat(again.body()).isEqualTo(first.body());
    assertThat(runs).hasValue(1);
    assertThat(effects()).isEqualTo(1);
    assertThat(keys()).containsExactly("201");
  }

  @Test
  void commitsWhatJpaHasWritten() throws Exception {
    EntityManager entities = jpa();
    start(exchange -> {
      transactional(() -> entities.persist(new Effect(UUID.randomUUID())));
      insert(); // with JDBC in the same transaction
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(isReplay(post(service, "/v1", "k", "{}"))).isTrue();
    assertThat(effects()).isEqualTo(2);
    assertThat(keys()).containsExactly("201");
  }

  @Test
  void keepsNothing_whenJpaFindsAViolationAtTheCommit() throws Exception {
    EntityManager entities = jpa();
    UUID taken = insert();
    start(exchange -> {
      transactional(
          () -> entities.persist(new Effect(runs.get() == 1 ? taken : UUID.randomUUID())));
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertError(post(service, "/v1", "k", "{}"), 500, "internal_error");
    assertThat(effects()).isEqualTo(1);
    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(effects()).isEqualTo(2);
  }

  @Test
  void rollsBackEverything_whenTheHandlerThrowsLate() throws Exception {
    start(exchange -> {
      transactional(this::insert);
      if (runs.get() == 1) {
        throw ServiceException.of(ErrorCode.CONFLICT);
      }
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(409);
    assertThat(effects()).isZero();
    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void rollsBackEverything_whenTheAnswerIsNotFinal() throws Exception {
    start(exchange -> {
      transactional(this::insert);
      HttpResponses.json(exchange, 503, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(503);
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
  }

  @Test
  void keepsNothing_whenAnInnerTransactionFailedAndTheHandlerSwallowedIt() throws Exception {
    start(exchange -> {
      transactional(this::insert);
      try {
        transactional(() -> {
          throw new IllegalStateException("inner");
        });
      } catch (IllegalStateException swallowed) {
        // The transaction is marked for rollback.
      }
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertError(post(service, "/v1", "k", "{}"), 500, "internal_error");
    assertThat(effects()).isZero();
    post(service, "/v1", "k", "{}");
    assertThat(runs).as("the key is free").hasValue(2);
  }

  @Test
  void keepsNothing_whenAStatementHasFailedAndTheHandlerSwallowedIt() throws Exception {
    start(exchange -> {
      UUID id = insert();
      try {
        insert(id);
      } catch (DataAccessException swallowed) {
        // Postgres has given the transaction up.
      }
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(500);
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
  }

  @Test
  void leavesTransactionsOfTheirOwnAlone() throws Exception {
    start(exchange -> {
      transactional(TransactionDefinition.PROPAGATION_REQUIRES_NEW, this::insert);
      throw ServiceException.of(ErrorCode.CONFLICT);
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(409);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void runsListenersAfterTheCommit_whenRowAndKeyAreThere() throws Exception {
    AtomicReference<String> seen = new AtomicReference<>();
    start(exchange -> {
      transactional(() -> {
        insert();
        TransactionSynchronizationManager.registerSynchronization(new TransactionSynchronization() {
          @Override
          public void afterCommit() {
            try {
              seen.set(effects() + " " + keys());
            } catch (Exception e) {
              throw new AssertionError(e);
            }
          }
        });
      });
      HttpResponses.json(exchange, 201, Map.of());
    });

    post(service, "/v1", "k", "{}");

    assertThat(seen).hasValue("1 [201]");
  }

  @Test
  void givesTheSameTransactionToTheHandler() throws Exception {
    AtomicInteger afterCommit = new AtomicInteger();
    start(exchange -> {
      Connection tx = Idempotency.transaction(exchange);
      insert();
      assertThat(tx.createStatement().executeQuery("SELECT 1 FROM effects").next())
          .isTrue();
      assertThatThrownBy(tx::commit).hasMessageContaining("refused");
      tx.unwrap(Executor.class).execute(afterCommit::incrementAndGet);
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(afterCommit).hasValue(1);
    assertThat(effects()).isEqualTo(1);
    assertNoConnectionIsHeld();
  }

  @Test
  void aFailureThatTheHandlerCatchesUndoesNothingThatSpringHasDone() throws Exception {
    UUID taken = insert();
    start(exchange -> {
      insert();
      Connection tx = Idempotency.transaction(exchange);
      for (int i = 0; i < 3; i++) {
        assertThatThrownBy(() -> insert(tx, taken)).isInstanceOf(SQLException.class);
        insert();
        insert(tx, UUID.randomUUID());
        insert();
      }
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(effects()).isEqualTo(1 + 1 + 3 * 3);
    assertThat(keys()).containsExactly("201");
  }

  @Test
  void keepsNothing_whenTheHandlerContinuesAfterAFailureOfSprings() throws Exception {
    UUID taken = insert();
    start(exchange -> {
      insert();
      assertThatThrownBy(() -> insert(taken)).isInstanceOf(DataAccessException.class);
      Connection tx = Idempotency.transaction(exchange);
      assertThatThrownBy(() -> insert(tx, UUID.randomUUID())).isInstanceOf(SQLException.class);
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertError(post(service, "/v1", "k", "{}"), 500, "idempotency_failed");
    assertThat(effects()).isEqualTo(1);
    assertThat(keys()).isEmpty();
  }

  @Test
  void is503_whenNoTransactionCanBegin() throws Exception {
    HikariDataSource closed = new HikariDataSource();
    closed.setJdbcUrl("jdbc:postgresql://127.0.0.1:1/none");
    closed.setConnectionTimeout(250);
    closed.setInitializationFailTimeout(-1);
    manager = new JdbcTransactionManager(closed);
    start(exchange -> HttpResponses.json(exchange, 201, Map.of()));

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(503);
    assertThat(runs).hasValue(0);
    closed.close();
  }

  @Test
  void runsNothing_whenTheManagerIsOfAnotherDataSource() throws Exception {
    try (HikariDataSource another = new HikariDataSource()) {
      another.setJdbcUrl(db.getJdbcUrl());
      another.setDataSourceProperties(db.getDataSourceProperties());
      manager = new JdbcTransactionManager(another);
      start(exchange -> HttpResponses.json(exchange, 201, Map.of()));

      assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(500);
      assertThat(runs).hasValue(0);
      assertThat(keys()).isEmpty();
      assertNoConnectionIsHeld();
    }
  }

  @Test
  void refusesToJoinATransactionThatIsOpenAlready() {
    Transactions transactions = SpringTransactions.of(manager, db);
    start(exchange -> HttpResponses.json(exchange, 201, Map.of()));

    transactional(() -> assertThatThrownBy(transactions::begin)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageStartingWith("a transaction is open already"));
  }

  @Test
  void worksWithSpringsProxyOfTheDataSource() throws Exception {
    DataSource proxy = new TransactionAwareDataSourceProxy(db);
    service = Services.serve(
        Idempotency.builder(proxy)
            .transactions(SpringTransactions.of(manager, proxy))
            .build(),
        exchange -> {
          insert();
          if (runs.incrementAndGet() == 1) {
            throw ServiceException.of(ErrorCode.CONFLICT);
          }
          HttpResponses.json(exchange, 201, Map.of());
        });

    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(409);
    assertThat(post(service, "/v1", "k", "{}").statusCode()).isEqualTo(201);
    assertThat(isReplay(post(service, "/v1", "k", "{}"))).isTrue();
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void needsTheStoreOfADataSource() {
    start(exchange -> HttpResponses.json(exchange, 201, Map.of()));

    assertThatThrownBy(() -> Idempotency.builder(Idempotency.builder(db).build().store())
            .transactions(SpringTransactions.of(manager, db))
            .build())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("transactions must be set with Idempotency.builder(db)");
  }
}
