package dev.evalops.runtime.natsbus;

import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.api.RetentionPolicy;
import io.nats.client.api.StorageType;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Creates missing streams, and leaves existing ones unchanged. */
final class Streams {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final int NOT_FOUND = 10_059;
  private static final int NAME_IN_USE = 10_058;

  /** The server's own, if a stream does not say. */
  private static final Duration DUPLICATE_WINDOW = Duration.ofMinutes(2);

  private Streams() {}

  static StreamConfiguration.Builder standard(String name, String filter, int replicas) {
    return StreamConfiguration.builder()
        .name(name)
        .subjects(filter)
        .retentionPolicy(RetentionPolicy.Limits)
        .storageType(StorageType.File)
        .replicas(replicas)
        .maxAge(Duration.ofDays(7));
  }

  /** Returns the stream as it is: created, or compared with what is wanted, with one warning of the differences. */
  static StreamConfiguration ensure(JetStreamManagement management, StreamConfiguration wanted)
      throws IOException, JetStreamApiException {
    boolean created = !exists(management, wanted) && create(management, wanted);
    StreamConfiguration found = management.getStreamInfo(wanted.getName()).getConfiguration();
    if (created) {
      LOG.atInfo()
          .addKeyValue("stream", wanted.getName())
          .addKeyValue("subjects", wanted.getSubjects())
          .log("stream created");
    } else {
      compare(wanted, found);
    }
    return found;
  }

  /** Creates the stream again if it is gone. */
  static void restore(JetStreamManagement management, StreamConfiguration wanted)
      throws IOException, JetStreamApiException {
    if (!exists(management, wanted) && create(management, wanted)) {
      LOG.atWarn()
          .addKeyValue("stream", wanted.getName())
          .addKeyValue("subjects", wanted.getSubjects())
          .log("stream was gone; created again, empty");
    }
  }

  private static boolean exists(JetStreamManagement management, StreamConfiguration wanted)
      throws IOException, JetStreamApiException {
    try {
      management.getStreamInfo(wanted.getName());
      return true;
    } catch (JetStreamApiException failure) {
      if (failure.getApiErrorCode() != NOT_FOUND) {
        throw failure;
      }
      return false;
    }
  }

  /** False if somebody else was quicker. */
  private static boolean create(JetStreamManagement management, StreamConfiguration wanted)
      throws IOException, JetStreamApiException {
    try {
      management.addStream(wanted);
      return true;
    } catch (JetStreamApiException failure) {
      if (failure.getApiErrorCode() != NAME_IN_USE) {
        throw failure;
      }
      return false;
    }
  }

  private static void compare(StreamConfiguration wanted, StreamConfiguration found) {
    List<String> differences = differences(wanted, found);
    if (!differences.isEmpty()) {
      LOG.atWarn()
          .addKeyValue("stream", wanted.getName())
          .addKeyValue("differences", differences)
          .log("stream exists with a different configuration; left unchanged");
    }
  }

  /** How the stream that is there falls short of, or goes beyond, what would be made. */
  static List<String> differences(StreamConfiguration wanted, StreamConfiguration found) {
    List<String> differences = new ArrayList<>();
    for (String subject : wanted.getSubjects()) {
      if (found.getSubjects().stream().noneMatch(filter -> Subjects.covers(filter, subject))) {
        differences.add(
            "subjects " + found.getSubjects() + " do not take everything on " + subject);
      }
    }
    differ(differences, "retention", wanted.getRetentionPolicy(), found.getRetentionPolicy());
    differ(differences, "storage", wanted.getStorageType(), found.getStorageType());
    differ(differences, "replicas", wanted.getReplicas(), found.getReplicas());
    differ(differences, "max age", wanted.getMaxAge(), found.getMaxAge());
    differ(differences, "max messages", wanted.getMaxMsgs(), found.getMaxMsgs());
    differ(differences, "max bytes", wanted.getMaxBytes(), found.getMaxBytes());
    differ(
        differences,
        "max messages per subject",
        wanted.getMaxMsgsPerSubject(),
        found.getMaxMsgsPerSubject());
    differ(
        differences,
        "max message size",
        wanted.getMaximumMessageSize(),
        found.getMaximumMessageSize());
    differ(differences, "duplicate window", duplicateWindow(wanted), duplicateWindow(found));
    differ(differences, "without acknowledgements", wanted.getNoAck(), found.getNoAck());
    return differences;
  }

  /** For how long the stream knows a message id again. */
  static Duration duplicateWindow(StreamConfiguration stream) {
    Duration window = stream.getDuplicateWindow();
    if (window != null && window.isPositive()) {
      return window;
    }
    Duration age = stream.getMaxAge();
    return age.isPositive() && age.compareTo(DUPLICATE_WINDOW) < 0 ? age : DUPLICATE_WINDOW;
  }

  private static void differ(List<String> differences, String name, Object wanted, Object found) {
    if (!wanted.equals(found)) {
      differences.add(name + " is " + found + " instead of " + wanted);
    }
  }
}
