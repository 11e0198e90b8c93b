/**
 * The result of an introspection as the message {@code identity.v1.IntrospectResponse}: {@link
 * dev.evalops.runtime.identity.proto.ProtoIntrospection}. Needs protobuf-java, which the rest of this jar does without.
 *
 * @serial exclude
 */
@NullMarked
package dev.evalops.runtime.identity.proto;

import org.jspecify.annotations.NullMarked;
