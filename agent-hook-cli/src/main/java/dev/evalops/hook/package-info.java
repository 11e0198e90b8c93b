/**
 * The program {@code evalops-agent-hook}: asks the governance service before a coding agent runs a tool. Everything but
 * the service's own "allow" blocks the tool.
 */
@NullMarked
package dev.evalops.hook;

import org.jspecify.annotations.NullMarked;
