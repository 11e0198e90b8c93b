package dev.evalops.hook.install;

import java.util.List;

/** What a host's settings must say for the hook to run, and to block when it fails. */
interface HostSettings {
  /** By which an entry of ours is known in a command. */
  String NAME = "evalops-agent-hook";

  /** What the host shows while a call waits. */
  String STATUS_MESSAGE = "EvalOps policy check";

  /**
   * Adds the hook's entry, or puts it right.
   *
   * @param text the file, blank if there is none
   * @param command as the host gives it to its shell
   * @return the new text; the same if it has the entry
   * @throws NotUnderstoodException if the file is not what we know
   */
  String install(String text, String command) throws NotUnderstoodException;

  /**
   * Takes the hook's entry away, and nothing else.
   *
   * @param text the file
   * @return the new text; the same if it has no entry
   * @throws NotUnderstoodException if the file is not what we know
   */
  String uninstall(String text) throws NotUnderstoodException;

  /**
   * Looks for what keeps the hook from running.
   *
   * @param text the file
   * @param dropIns files that the host merges into it, in their order
   * @param command as the host gives it to its shell
   * @return empty if all is well
   * @throws NotUnderstoodException if a file is not what we know
   */
  List<String> problems(String text, List<String> dropIns, String command)
      throws NotUnderstoodException;
}
