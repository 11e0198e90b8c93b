package dev.evalops.examples.notes.spring;

import static dev.evalops.runtime.errors.ErrorCode.INVALID_INPUT;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.servlet.Servlets;
import jakarta.servlet.http.HttpServletRequest;
import java.net.URI;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.PutMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** {@code /v1/notes}: create, read, update with If-Match, list; and {@code /v1/feed}. */
@RestController
class NotesController {
  private final NoteService notes;
  private final Feed feed;

  NotesController(NoteService notes, Feed feed) {
    this.notes = notes;
    this.feed = feed;
  }

  @PostMapping("/v1/notes")
  ResponseEntity<Note> create(@RequestBody EditNote edit, HttpServletRequest request)
      throws SQLException {
    NoteService.Saved saved = notes.create(actor(request), edit);
    return mutation(
        ResponseEntity.created(URI.create("/v1/notes/" + saved.note().id())), saved);
  }

  @PutMapping("/v1/notes/{id}")
  ResponseEntity<Note> update(
      @PathVariable("id") UUID id, @RequestBody EditNote edit, HttpServletRequest request)
      throws SQLException {
    HttpExchange exchange = Servlets.exchange(request);
    long version = HttpRequests.requireIfMatch(exchange);
    return mutation(ResponseEntity.ok(), notes.update(Actor.of(exchange), id, version, edit));
  }

  private static ResponseEntity<Note> mutation(
      ResponseEntity.BodyBuilder response, NoteService.Saved saved) {
    return response
        .eTag(Long.toString(saved.note().version()))
        .header("X-Change-Seq", Long.toString(saved.sequence()))
        .body(saved.note());
  }

  @GetMapping("/v1/notes/{id}")
  ResponseEntity<Note> read(@PathVariable("id") UUID id, HttpServletRequest request) {
    Note note = notes.read(actor(request).organizationId(), id);
    return ResponseEntity.ok().eTag(Long.toString(note.version())).body(note);
  }

  @GetMapping("/v1/notes")
  Map<String, List<Note>> list(
      @RequestParam(name = "limit", defaultValue = "20") long limit, HttpServletRequest request) {
    return Map.of("notes", notes.list(actor(request).organizationId(), checked(limit)));
  }

  @GetMapping("/v1/feed")
  Map<String, List<Feed.Item>> feed(
      @RequestParam(name = "limit", defaultValue = "20") long limit, HttpServletRequest request) {
    return Map.of("changes", feed.newest(actor(request).organizationId(), checked(limit)));
  }

  private static long checked(long limit) {
    if (limit < 1 || limit > 100) {
      throw ServiceException.of(INVALID_INPUT, "limit must be from 1 to 100").op("limit");
    }
    return limit;
  }

  private static Actor actor(HttpServletRequest request) {
    return Actor.of(Servlets.exchange(request));
  }
}
