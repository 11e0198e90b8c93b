package dev.evalops.runtime.changejournal.auth;

import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.changejournal.ChangeActor;

/**
 * Actors of requests as actors of changes.
 *
 * <pre>{@code
 * ChangeJournal.mutation("note", note.id(), "create").by(ChangeActors.of(Actor.of(exchange))).payload(note).write(tx);
 * }</pre>
 */
public final class ChangeActors {
  private ChangeActors() {}

  /**
   * Returns the actor of a change that an actor of a request makes. Its attributes are not stored.
   *
   * @param actor who calls
   * @return the actor, with the same type, id and organization
   * @throws IllegalArgumentException if one of them cannot be stored as text
   */
  public static ChangeActor of(Actor actor) {
    return new ChangeActor(actor.type(), actor.id(), actor.organizationId());
  }
}
