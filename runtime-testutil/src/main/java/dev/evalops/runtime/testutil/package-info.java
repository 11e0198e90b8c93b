/**
 * Disposable Postgres, Redis and NATS for tests, as plain {@link java.lang.AutoCloseable}s ({@link
 * dev.evalops.runtime.testutil.PostgresServer}, {@link dev.evalops.runtime.testutil.RedisServer}, {@link
 * dev.evalops.runtime.testutil.NatsServer}) and as JUnit extensions ({@link dev.evalops.runtime.testutil.TestPostgres},
 * {@link dev.evalops.runtime.testutil.TestRedis}, {@link dev.evalops.runtime.testutil.TestNats}).
 */
@NullMarked
package dev.evalops.runtime.testutil;

import org.jspecify.annotations.NullMarked;
