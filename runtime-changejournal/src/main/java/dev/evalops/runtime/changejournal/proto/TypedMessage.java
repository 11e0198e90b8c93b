package dev.evalops.runtime.changejournal.proto;

import com.google.protobuf.Message;
import com.google.protobuf.TypeRegistry;
import java.util.Objects;

/**
 * A message as the payload of a change, with the types of what its {@code Any} fields hold. A message alone does for
 * types of its own file and of those that this imports.
 *
 * <pre>{@code
 * static final TypeRegistry TYPES =
 *     TypeRegistry.newBuilder().add(NotesProto.getDescriptor().getMessageTypes()).build();
 *
 * ChangeJournal.mutation("note", id, "create").by(actor).payload(new TypedMessage(note, TYPES)).write(tx);
 * }</pre>
 *
 * @param message the message
 * @param types its own type, and those of the messages in its {@code Any} fields
 */
public record TypedMessage(Message message, TypeRegistry types) {
  /** Checks the values. */
  public TypedMessage {
    Objects.requireNonNull(message, "message");
    Objects.requireNonNull(types, "types");
  }
}
