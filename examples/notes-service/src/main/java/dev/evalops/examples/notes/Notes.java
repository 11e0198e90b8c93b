package dev.evalops.examples.notes;

import static dev.evalops.runtime.errors.ErrorCode.INVALID_INPUT;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.idempotency.Idempotency;
import io.opentelemetry.context.Context;
import java.io.IOException;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/** {@code /v1/notes}: create, read, update with If-Match, list. */
final class Notes {
  private final NoteStore store;
  private final NoteCache cache;

  Notes(NoteStore store, NoteCache cache) {
    this.store = store;
    this.cache = cache;
  }

  void create(HttpExchange exchange) throws IOException, SQLException {
    EditNote edit = HttpRequests.json(exchange, EditNote.class);
    Saved saved = store.create(
        Idempotency.transaction(exchange),
        Actor.of(exchange),
        edit.checkedTitle(),
        edit.bodyOrEmpty());
    whenCommitted(exchange, saved.note());
    exchange.getResponseHeaders().set("Location", "/v1/notes/" + saved.note().id());
    HttpResponses.mutation(exchange, 201, saved.note(), saved.sequence());
  }

  void update(HttpExchange exchange) throws IOException, SQLException {
    UUID id = HttpRequests.pathUuid(exchange, "id");
    long version = HttpRequests.requireIfMatch(exchange);
    EditNote edit = HttpRequests.json(exchange, EditNote.class);
    Saved saved = store.update(
        Idempotency.transaction(exchange),
        Actor.of(exchange),
        id,
        version,
        edit.checkedTitle(),
        edit.bodyOrEmpty());
    whenCommitted(exchange, saved.note());
    HttpResponses.mutation(exchange, 200, saved.note(), saved.sequence());
  }

  void read(HttpExchange exchange) throws IOException, SQLException {
    read(exchange, Actor.of(exchange).organizationId(), HttpRequests.pathUuid(exchange, "id"));
  }

  void read(HttpExchange exchange, String organization, UUID id) throws IOException, SQLException {
    Optional<Note> cached = cache.get(organization, id);
    Note note = cached.isPresent() ? cached.get() : store.read(organization, id);
    if (cached.isEmpty()) {
      cache.fill(organization, note);
    }
    exchange.getResponseHeaders().set("ETag", "\"" + note.version() + "\"");
    HttpResponses.json(exchange, 200, note);
  }

  void list(HttpExchange exchange) throws IOException, SQLException {
    long limit = HttpRequests.longQuery(exchange, "limit", 20);
    if (limit < 1 || limit > 100) {
      throw ServiceException.of(INVALID_INPUT, "limit must be from 1 to 100").op("note.list");
    }
    List<Note> notes = store.list(Actor.of(exchange).organizationId(), (int) limit);
    HttpResponses.json(exchange, 200, Map.of("notes", notes));
  }

  /** Once the answer is out, for only then is the note committed. */
  private void whenCommitted(HttpExchange exchange, Note note) {
    RequestContext context = RequestContext.of(exchange);
    String organization = Actor.of(exchange).organizationId();
    context.onComplete(Context.current().wrap(() -> {
      if (context.status() >= 200 && context.status() <= 299) {
        cache.overwrite(organization, note);
      }
    }));
  }
}
