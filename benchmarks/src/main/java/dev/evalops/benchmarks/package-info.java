/** What the library costs, beside its peers in the same run. */
@NullMarked
package dev.evalops.benchmarks;

import org.jspecify.annotations.NullMarked;
