package dev.evalops.examples.notes;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.encoder.PatternLayoutEncoder;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.OutputStreamAppender;
import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.outbox.Outbox;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Requests per second of the example's read path, and of a handler that does nothing, with all of the library around
 * them and on the bare JDK server with the same settings. The servers are loaded in turn, round by round, by {@code
 * wrk}.
 */
public final class ReadPathLoad {
  private static final Logger log = LoggerFactory.getLogger("load");
  private static final Pattern RESULT = Pattern.compile("Requests/sec:\\s+([0-9.]+)");
  private static final byte[] HELLO =
      "{\"message\":\"hello world\"}\n".getBytes(StandardCharsets.UTF_8);

  private ReadPathLoad() {}

  /**
   * Runs the load and prints the table.
   *
   * @param args rounds (7) and seconds a round (5)
   * @throws Exception if a server does not start, or wrk is not there
   */
  public static void main(String[] args) throws Exception {
    int rounds = args.length > 0 ? Integer.parseInt(args[0]) : 7;
    int seconds = args.length > 1 ? Integer.parseInt(args[1]) : 5;
    logIntoTheVoid();

    try (Lifecycle life = Lifecycle.open()) {
      HikariDataSource db = life.add(
          "postgres",
          Postgres.builder(PostgresServer.shared().url())
              .init(NotesSchema::apply)
              .open());
      Redis redis = life.add("redis", Redis.open(RedisServer.shared().url()));
      NatsBus bus = life.add(
          "nats",
          NatsBus.builder(NatsServer.shared().url()).stream("NOTES")
              .subjectPrefix("notes.changes")
              .open());
      Outbox outbox = life.add("outbox", Outbox.start(db, bus));
      NoteStore store = new NoteStore(db, outbox);
      Actor actor = new Actor("user", "ann", "org-1");
      UUID note;
      try (java.sql.Connection tx = db.getConnection()) {
        tx.setAutoCommit(false);
        note = store.create(tx, actor, "milk", "two litres").note().id();
        tx.commit();
      }
      Notes cached = new Notes(store, new NoteCache(redis.connection().sync()));
      HttpHandler hello = exchange -> {
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(200, HELLO.length);
        exchange.getResponseBody().write(HELLO);
        exchange.close();
      };
      // The same on both sides: what auth costs is measured elsewhere.
      HttpHandler read = exchange -> {
        String id = exchange.getRequestURI().getPath().substring("/v1/notes/".length());
        try {
          cached.read(exchange, actor.organizationId(), UUID.fromString(id));
        } catch (SQLException e) {
          throw new IOException(e);
        }
      };
      HttpHandler bareRead = exchange -> {
        try (exchange) {
          read.handle(exchange);
        }
      };
      Filter[] quiet = {HttpFilters.requestId(), HttpFilters.browserGuards()};
      Filter[] all = {
        HttpFilters.requestId(), HttpFilters.requestLog(log), HttpFilters.browserGuards()
      };
      try (HttpService logging = service(read, hello, all);
          HttpService service = service(read, hello, quiet)) {
        HttpServer bare = bareServer(Map.of("/v1/notes", bareRead, "/hello", hello));
        Map<String, URI> servers = new LinkedHashMap<>();
        servers.put(
            "bare JDK server",
            URI.create("http://localhost:" + bare.getAddress().getPort()));
        servers.put("all filters but the log", service.uri());
        servers.put("all filters", logging.uri());
        try {
          compare("read a note (cached in Redis)", servers, "/v1/notes/" + note, rounds, seconds);
          compare("a handler that does nothing", servers, "/hello", rounds, seconds);
        } finally {
          bare.stop(0);
        }
      }
    }
  }

  /** The log is written as the example writes it, and thrown away, so that no disk or terminal is measured. */
  private static void logIntoTheVoid() {
    LoggerContext context = (LoggerContext) LoggerFactory.getILoggerFactory();
    context.reset();
    PatternLayoutEncoder encoder = new PatternLayoutEncoder();
    encoder.setContext(context);
    encoder.setPattern("%d{HH:mm:ss.SSS} %-5level %-22logger{0} %msg %kvp%n");
    encoder.start();
    OutputStreamAppender<ILoggingEvent> appender = new OutputStreamAppender<>();
    appender.setContext(context);
    appender.setEncoder(encoder);
    appender.setOutputStream(OutputStream.nullOutputStream());
    appender.start();
    ch.qos.logback.classic.Logger root = context.getLogger(Logger.ROOT_LOGGER_NAME);
    root.setLevel(Level.INFO);
    root.addAppender(appender);
  }

  private static HttpService service(HttpHandler notes, HttpHandler hello, Filter... filters) {
    return HttpService.builder(0)
        .filters(filters)
        .handle("/v1/notes", notes)
        .handle("/hello", hello)
        .start();
  }

  private static HttpServer bareServer(Map<String, HttpHandler> handlers) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress(0), 1024);
    server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
    handlers.forEach(server::createContext);
    server.start();
    return server;
  }

  private static void compare(
      String what, Map<String, URI> servers, String path, int rounds, int seconds)
      throws IOException, InterruptedException {
    record Server(String name, URI target, List<Double> rates) {}
    List<Server> contenders = new ArrayList<>();
    servers.forEach(
        (name, uri) -> contenders.add(new Server(name, uri.resolve(path), new ArrayList<>())));
    for (Server server : contenders) {
      load(server.target(), seconds);
    }
    for (int round = 0; round < rounds; round++) {
      for (Server server : contenders) {
        server.rates().add(load(server.target(), seconds));
      }
    }
    System.out.printf(
        "%n%s: requests/s, median of %d rounds of %d s, 32 connections%n", what, rounds, seconds);
    double bare = 0;
    for (Server server : contenders) {
      List<Double> sorted = server.rates().stream().sorted().toList();
      double median = sorted.get(rounds / 2);
      bare = bare == 0 ? median : bare;
      System.out.printf(
          Locale.ROOT,
          "  %-24s %8.0f  (%.0f to %.0f)  %5.1f %%%n",
          server.name(),
          median,
          sorted.getFirst(),
          sorted.getLast(),
          100 * median / bare);
    }
  }

  private static double load(URI target, int seconds) throws IOException, InterruptedException {
    Process wrk;
    try {
      wrk = new ProcessBuilder("wrk", "-t1", "-c32", "-d" + seconds + "s", target.toString())
          .redirectErrorStream(true)
          .start();
    } catch (IOException e) {
      throw new IOException(
          "wrk is not there; install it, for example with apt-get install wrk", e);
    }
    String output = new String(wrk.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    Matcher result = RESULT.matcher(output);
    if (wrk.waitFor() != 0 || !result.find() || output.contains("Non-2xx")) {
      throw new IOException("wrk failed:\n" + output);
    }
    return Double.parseDouble(result.group(1));
  }
}
