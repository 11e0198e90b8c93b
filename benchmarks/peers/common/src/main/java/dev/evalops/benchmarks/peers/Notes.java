package dev.evalops.benchmarks.peers;

import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/** What every service serves: one note, to callers whose token is known. */
public final class Notes {
  /** The note that is read. */
  public static final UUID ID = UUID.fromString("019a1c5e-7d3a-7c41-9a55-2f3c0b7d9e10");

  /** The scope that reading needs. */
  public static final String SCOPE = "notes:read";

  private static final Map<UUID, Note> NOTES = Map.of(
      ID,
      new Note(ID, "milk", "two litres, and bread if there is some", 3));
  private static final Map<String, Caller> CALLERS = Map.of(
      "secret-of-ann", new Caller("ann", "org-1", Set.of(SCOPE, "notes:write")));

  /** A note. */
  public record Note(UUID id, String title, String body, long version) {}

  /** Who has a token. */
  public record Caller(String subject, String organization, Set<String> scopes) {}

  private Notes() {}

  public static Optional<Note> find(UUID id) {
    return Optional.ofNullable(NOTES.get(id));
  }

  public static Optional<Caller> caller(String token) {
    return Optional.ofNullable(CALLERS.get(token));
  }
}
