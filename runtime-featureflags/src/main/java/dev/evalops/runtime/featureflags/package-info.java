/**
 * Feature flags from a file that is watched: {@link dev.evalops.runtime.featureflags.FeatureFlags} is the entry point.
 */
@NullMarked
package dev.evalops.runtime.featureflags;

import org.jspecify.annotations.NullMarked;
