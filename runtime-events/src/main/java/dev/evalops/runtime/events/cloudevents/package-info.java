/** Events as those of the CloudEvents SDK, and back; needs {@code io.cloudevents:cloudevents-core}. */
@NullMarked
package dev.evalops.runtime.events.cloudevents;

import org.jspecify.annotations.NullMarked;
