/** The service that checks for the users of a machine, as a user of its own. */
@NullMarked
package dev.evalops.hook.service;

import org.jspecify.annotations.NullMarked;
