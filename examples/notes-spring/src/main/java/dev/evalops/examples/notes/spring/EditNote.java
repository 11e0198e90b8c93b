package dev.evalops.examples.notes.spring;

import static dev.evalops.runtime.errors.ErrorCode.INVALID_INPUT;

import dev.evalops.runtime.errors.ServiceException;
import org.jspecify.annotations.Nullable;

/** What a client writes: the body of a create or of an update. */
record EditNote(@Nullable String title, @Nullable String body) {
  private static final int MAX_TITLE = 200;

  /** The title, 1 to 200 characters; else the client is told so. */
  String checkedTitle() {
    if (title == null
        || title.isBlank()
        || title.length() > MAX_TITLE
        || title.indexOf('\0') >= 0) {
      throw ServiceException.of(
              INVALID_INPUT, "title must have 1 to " + MAX_TITLE + " characters, none of them NUL")
          .op("note.write");
    }
    return title.strip();
  }

  /** The body; empty when the client left it out. */
  String bodyOrEmpty() {
    if (body != null && body.indexOf('\0') >= 0) {
      throw ServiceException.of(INVALID_INPUT, "body must not hold NUL characters")
          .op("note.write");
    }
    return body == null ? "" : body;
  }
}
