package dev.evalops.runtime.featureflags;

import java.util.List;

/**
 * A flag as the file has it.
 *
 * @param key its name, without white space at the ends
 * @param enabled whether it is on, for those that the rollout reaches
 * @param rolloutPercent how many subjects of a hundred it reaches, 1 to 100; 0 in the file, or more than 100, is 100
 * @param explicitRollout whether the file says a percentage other than 0
 * @param owners who is responsible; may be empty
 * @param description what it is for; may be empty
 */
public record Flag(
    String key,
    boolean enabled,
    int rolloutPercent,
    boolean explicitRollout,
    List<String> owners,
    String description) {
  /** Copies the owners. */
  public Flag {
    owners = List.copyOf(owners);
  }
}
