/**
 * The notes service as a Spring Boot application; begin with {@link
 * dev.evalops.examples.notes.spring.NotesApplication}.
 */
@NullMarked
package dev.evalops.examples.notes.spring;

import org.jspecify.annotations.NullMarked;
