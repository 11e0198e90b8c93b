/** The flags behind OpenFeature's interface; needs {@code dev.openfeature:sdk}. */
@NullMarked
package dev.evalops.runtime.featureflags.openfeature;

import org.jspecify.annotations.NullMarked;
