package dev.evalops.examples.notes.spring;

import java.time.Instant;
import java.util.UUID;
import tools.jackson.databind.PropertyNamingStrategies.SnakeCaseStrategy;
import tools.jackson.databind.annotation.JsonNaming;

/** A note as it is stored and as clients see it. The version counts its changes, from 1. */
@JsonNaming(SnakeCaseStrategy.class)
record Note(
    UUID id, String title, String body, long version, Instant createdAt, Instant updatedAt) {}
