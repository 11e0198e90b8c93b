/**
 * The change as a protobuf message, and messages as payloads; needs {@code protobuf-java} and {@code
 * protobuf-java-util}.
 *
 * <p>Start with {@link dev.evalops.runtime.changejournal.proto.ChangeProtos}.
 */
@NullMarked
package dev.evalops.runtime.changejournal.proto;

import org.jspecify.annotations.NullMarked;
