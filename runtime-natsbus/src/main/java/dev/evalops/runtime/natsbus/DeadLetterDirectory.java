package dev.evalops.runtime.natsbus;

import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The records on disk, and which aggregates have some. A record is durable, in the file and in the directory, when {@link #add}
 * returns. Processes may share a directory; the lock says who replays. Thread-safe.
 */
final class DeadLetterDirectory {
  private static final String LOCK = ".lock";
  private static final String QUARANTINE = "quarantine";
  private static final Duration LEFTOVER = Duration.ofHours(1);

  private final Path directory;
  private final Path quarantine;
  private final int limit;
  private final InstantSource clock;

  private final ReentrantLock lock = new ReentrantLock();
  // Guarded by the lock.
  private final TreeMap<String, String> laneOfName = new TreeMap<>(); // empty: none
  private final Map<String, Integer> countOfLane = new HashMap<>();
  private final Set<String> writing = new HashSet<>();
  private Instant last = Instant.MIN;

  private DeadLetterDirectory(Path directory, int limit, InstantSource clock) {
    this.directory = directory;
    this.quarantine = directory.resolve(QUARANTINE);
    this.limit = limit;
    this.clock = clock;
  }

  static DeadLetterDirectory open(Path directory, int limit, InstantSource clock)
      throws IOException {
    if (directory.getFileSystem().supportedFileAttributeViews().contains("posix")) {
      Files.createDirectories(
          directory,
          PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-x---")));
    } else {
      Files.createDirectories(directory);
    }
    DeadLetterDirectory opened = new DeadLetterDirectory(directory, limit, clock);
    Files.createDirectories(opened.quarantine);
    opened.refresh();
    return opened;
  }

  int size() {
    lock.lock();
    try {
      return laneOfName.size();
    } finally {
      lock.unlock();
    }
  }

  boolean holds(String lane) {
    lock.lock();
    try {
      return countOfLane.containsKey(lane);
    } finally {
      lock.unlock();
    }
  }

  /**
   * Writes a record, and returns when it is durable.
   *
   * @return the file
   * @throws IOException if it is not; then it is not counted either
   */
  Path add(Encoder.Outgoing message, String lastError) throws IOException {
    DeadLetter letter;
    lock.lock();
    try {
      if (laneOfName.size() >= limit) {
        throw new IOException("the dead-letter directory has " + limit + " records");
      }
      letter = DeadLetter.of(message, nextTime(), lastError);
      // Before it is there, so that nothing of the same aggregate overtakes it.
      remember(letter.fileName(), message.lane());
      writing.add(letter.fileName());
    } finally {
      lock.unlock();
    }
    Path file = directory.resolve(letter.fileName());
    boolean written = false;
    Path temporary = directory.resolve("." + letter.id() + ".tmp");
    try {
      try (FileOutputStream out = new FileOutputStream(temporary.toFile())) {
        out.write(letter.toJson());
        out.getFD().sync();
      }
      Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
      sync(directory);
      written = true;
      return file;
    } finally {
      written(letter.fileName(), written);
      if (!written) {
        Files.deleteIfExists(temporary);
        Files.deleteIfExists(file);
      }
    }
  }

  private void written(String name, boolean there) {
    lock.lock();
    try {
      writing.remove(name);
      if (!there) {
        forget(name);
      }
    } finally {
      lock.unlock();
    }
  }

  /** Later than every record before, also when the clock was set back. */
  private Instant nextTime() {
    Instant now = clock.instant();
    Instant next = now.isAfter(last) ? now : last.plusNanos(1);
    last = next;
    return next;
  }

  private void remember(String name, @Nullable String lane) {
    if (laneOfName.putIfAbsent(name, lane == null ? "" : lane) == null && lane != null) {
      countOfLane.merge(lane, 1, Integer::sum);
    }
  }

  private void forget(String name) {
    lock.lock();
    try {
      String lane = laneOfName.remove(name);
      if (lane != null && !lane.isEmpty()) {
        countOfLane.computeIfPresent(lane, (key, count) -> count == 1 ? null : count - 1);
      }
    } finally {
      lock.unlock();
    }
  }

  /** Learns what other processes have written and taken away. */
  void refresh() throws IOException {
    lock.lock();
    try {
      TreeSet<String> found = new TreeSet<>();
      TreeSet<String> before = new TreeSet<>(laneOfName.keySet());
      try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, "*.json")) {
        files.forEach(file -> found.add(file.getFileName().toString()));
      } catch (DirectoryIteratorException failure) {
        throw failure.getCause();
      }
      for (String name : found) {
        if (!laneOfName.containsKey(name)) {
          remember(name, laneOnDisk(name));
        }
      }
      for (String name : before) {
        if (!found.contains(name)
            && !writing.contains(name)
            && !Files.exists(directory.resolve(name))) {
          forget(name);
        }
      }
      if (!laneOfName.isEmpty()) {
        Instant newest = timeOf(laneOfName.lastKey());
        last = newest.isAfter(last) ? newest : last;
      }
    } finally {
      lock.unlock();
    }
  }

  private @Nullable String laneOnDisk(String name) {
    try {
      return read(name).lane();
    } catch (IOException | IllegalArgumentException unreadable) {
      return null; // found out and told when it is replayed
    }
  }

  private static Instant timeOf(String name) {
    try {
      return EventTime.parse(name.substring(0, 4) + "-" + name.substring(4, 6) + "-"
          + name.substring(6, 11) + ":" + name.substring(11, 13) + ":" + name.substring(13, 26));
    } catch (IndexOutOfBoundsException | IllegalArgumentException foreign) {
      return Instant.MIN;
    }
  }

  /** The oldest records that are not among the given lanes, of each lane one. */
  List<String> next(int most, int lookAhead, Set<String> without) {
    List<String> names = new ArrayList<>();
    Set<String> taken = new HashSet<>(without);
    lock.lock();
    try {
      int looked = 0;
      for (Map.Entry<String, String> entry : laneOfName.entrySet()) {
        if (names.size() == most || looked++ == lookAhead) {
          break;
        }
        String key = entry.getValue().isEmpty() ? entry.getKey() : entry.getValue();
        // One that is being written is not there yet, and keeps back those behind it.
        if (taken.add(key) && !writing.contains(entry.getKey())) {
          names.add(entry.getKey());
        }
      }
      return names;
    } finally {
      lock.unlock();
    }
  }

  String laneOf(String name) {
    lock.lock();
    try {
      String lane = laneOfName.getOrDefault(name, "");
      return lane.isEmpty() ? name : lane;
    } finally {
      lock.unlock();
    }
  }

  DeadLetter read(String name) throws IOException {
    return DeadLetter.parse(Files.readAllBytes(directory.resolve(name)));
  }

  Path path(String name) {
    return directory.resolve(name);
  }

  void delete(String name) throws IOException {
    Files.deleteIfExists(directory.resolve(name));
    forget(name);
  }

  /** Sets a record aside that can be neither read nor sent. */
  Path quarantine(String name) throws IOException {
    Path aside = quarantine.resolve(name);
    try {
      Files.move(directory.resolve(name), aside, StandardCopyOption.ATOMIC_MOVE);
    } catch (NoSuchFileException gone) {
      // Somebody has taken it away by hand.
    }
    forget(name);
    sync(quarantine);
    sync(directory);
    return aside;
  }

  void sync() throws IOException {
    sync(directory);
  }

  private static void sync(Path directory) throws IOException {
    try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }

  /** Deletes what writers have left that died in the middle. */
  void sweep() throws IOException {
    Instant old = clock.instant().minus(LEFTOVER);
    try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, ".*.tmp")) {
      for (Path file : files) {
        if (Files.getLastModifiedTime(file).toInstant().isBefore(old)) {
          Files.deleteIfExists(file);
        }
      }
    } catch (NoSuchFileException raced) {
      // Its writer was quicker.
    }
  }

  /** The right to replay, until it is closed; null while another process or publisher has it. */
  @Nullable
  Replaying tryReplaying() throws IOException {
    FileChannel channel = FileChannel.open(
        directory.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    boolean locked = false;
    try {
      FileLock right = channel.tryLock();
      locked = right != null;
      return locked ? new Replaying(channel) : null;
    } catch (OverlappingFileLockException another) {
      return null;
    } finally {
      if (!locked) {
        channel.close();
      }
    }
  }

  /** Closing it gives the right back. */
  record Replaying(FileChannel channel) implements AutoCloseable {
    @Override
    public void close() throws IOException {
      channel.close();
    }
  }
}
