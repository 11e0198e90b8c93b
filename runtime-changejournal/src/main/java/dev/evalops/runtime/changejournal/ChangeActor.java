package dev.evalops.runtime.changejournal;

/**
 * Who changes something, as both tables name it. {@link dev.evalops.runtime.changejournal.auth.ChangeActors} makes it
 * of the actor of a request.
 *
 * <p>Immutable.
 *
 * @param type the kind of actor, such as {@code user}, {@code service} or {@code api_key}
 * @param id the actor's id; blank when it has none, and then stored as NULL
 * @param organizationId the organization whose data changes; not blank, because no reader of one organization would
 *     find the row
 */
public record ChangeActor(String type, String id, String organizationId) {
  /**
   * Checks the parts.
   *
   * @throws IllegalArgumentException if the organization is blank, the id begins or ends with white space, or one of
   *     them cannot be stored as text
   */
  public ChangeActor {
    Text.storable("type", type);
    Text.id("id", id);
    if (Text.id("organizationId", organizationId).isEmpty()) {
      throw new IllegalArgumentException("organizationId must not be blank");
    }
  }
}
