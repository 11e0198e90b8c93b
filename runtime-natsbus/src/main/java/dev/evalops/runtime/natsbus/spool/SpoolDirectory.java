package dev.evalops.runtime.natsbus.spool;

import dev.evalops.runtime.events.EncodedEvent;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
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
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The records on disk, and which aggregates have some. A record is durable, in the file and in the directory, when
 * {@link #add} returns. Processes may share a directory; the lock says who replays. Thread-safe.
 */
final class SpoolDirectory {
  private static final String LOCK = ".lock";
  private static final String QUARANTINE = "quarantine";
  private static final Duration LEFTOVER = Duration.ofHours(1);

  /** A lock of the file system is one of the process, and goes when the process closes any channel of the file. */
  private static final Set<Path> REPLAYED_HERE = ConcurrentHashMap.newKeySet();

  private final Path directory;
  private final Path quarantine;
  private final int limit;
  private final InstantSource clock;

  private final ReentrantLock lock = new ReentrantLock();
  // Guarded by the lock.
  private final Map<String, Entry> entries = new HashMap<>();
  private final Map<String, TreeSet<String>> namesOfLane = new HashMap<>();
  private final TreeSet<String> oldestOfLanes = new TreeSet<>();
  private final Set<String> writing = new HashSet<>();
  private Instant last = Instant.MIN;

  /** What is known of a record without reading it. */
  private record Entry(String lane, String subject) {}

  private SpoolDirectory(Path directory, int limit, InstantSource clock) {
    this.directory = directory;
    this.quarantine = directory.resolve(QUARANTINE);
    this.limit = limit;
    this.clock = clock;
  }

  static SpoolDirectory open(Path directory, int limit, InstantSource clock) throws IOException {
    List<Path> parents = new ArrayList<>();
    for (Path each = directory.toAbsolutePath();
        each.getParent() != null && !Files.exists(each);
        each = each.getParent()) {
      parents.add(each.getParent());
    }
    if (isPosix(directory)) {
      Files.createDirectories(
          directory,
          PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-x---")));
    } else {
      Files.createDirectories(directory);
    }
    SpoolDirectory opened = new SpoolDirectory(directory, limit, clock);
    Files.createDirectories(opened.quarantine);
    sync(directory);
    for (Path parent : parents) {
      sync(parent);
    }
    opened.refresh();
    return opened;
  }

  private static boolean isPosix(Path path) {
    return path.getFileSystem().supportedFileAttributeViews().contains("posix");
  }

  int size() {
    lock.lock();
    try {
      return entries.size();
    } finally {
      lock.unlock();
    }
  }

  /**
   * Writes a record, and returns when it is durable. An interrupt does not keep it from that.
   *
   * @param time of {@link #now}, which says what it is replayed after
   * @return the file
   * @throws IOException if it is not; then it is not counted either
   */
  Path add(EncodedEvent event, Instant time, String lastError) throws IOException {
    return Objects.requireNonNull(add(event, time, lastError, false));
  }

  /** Does the same if a record of the same aggregate is there already; else returns null. */
  @Nullable
  Path addBehind(EncodedEvent event, Instant time, String lastError) throws IOException {
    return add(event, time, lastError, true);
  }

  private @Nullable Path add(EncodedEvent event, Instant time, String lastError, boolean behind)
      throws IOException {
    SpooledEvent spooled;
    lock.lock();
    try {
      if (behind && !namesOfLane.containsKey(event.lane())) {
        return null;
      }
      if (entries.size() >= limit) {
        throw new IOException("the spool directory is full, it holds " + limit + " records");
      }
      spooled = SpooledEvent.of(event, time, lastError);
      // Before it is there, so that nothing of the same aggregate overtakes it.
      remember(spooled.fileName(), new Entry(event.lane(), event.subject()));
      writing.add(spooled.fileName());
    } finally {
      lock.unlock();
    }
    Path file = directory.resolve(spooled.fileName());
    boolean written = false;
    Path temporary = directory.resolve("." + spooled.id() + ".tmp");
    try {
      create(temporary);
      try (FileOutputStream out = new FileOutputStream(temporary.toFile())) {
        out.write(spooled.toJson());
        out.getFD().sync();
      }
      Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
      sync(directory);
      written = true;
      return file;
    } finally {
      try {
        // Still marked as being written, so that nobody reads a record that was not kept.
        if (!written) {
          Files.deleteIfExists(temporary);
          Files.deleteIfExists(file);
        }
      } finally {
        written(spooled.fileName(), written);
      }
    }
  }

  /** Readable by nobody else, whoever may read the directory. */
  private static void create(Path temporary) throws IOException {
    if (isPosix(temporary)) {
      Files.createFile(
          temporary,
          PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
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

  /** The time, later than that of every record and every call before, also when the clock was set back. */
  Instant now() {
    lock.lock();
    try {
      Instant now = clock.instant();
      last = now.isAfter(last) ? now : last.plusNanos(1);
      return last;
    } finally {
      lock.unlock();
    }
  }

  private void remember(String name, Entry entry) {
    if (entries.putIfAbsent(name, entry) == null) {
      TreeSet<String> names = namesOfLane.computeIfAbsent(entry.lane, unknown -> new TreeSet<>());
      if (!names.isEmpty()) {
        oldestOfLanes.remove(names.first());
      }
      names.add(name);
      oldestOfLanes.add(names.first());
    }
  }

  /** Counts a record no more that is not there any more. */
  void forget(String name) {
    lock.lock();
    try {
      Entry entry = entries.remove(name);
      if (entry == null) {
        return;
      }
      String lane = entry.lane;
      TreeSet<String> names = Objects.requireNonNull(namesOfLane.get(lane));
      names.remove(name);
      if (oldestOfLanes.remove(name) && !names.isEmpty()) {
        oldestOfLanes.add(names.first());
      }
      if (names.isEmpty()) {
        namesOfLane.remove(lane);
      }
    } finally {
      lock.unlock();
    }
  }

  /** Learns what other processes have written and taken away. */
  void refresh() throws IOException {
    Set<String> found = new HashSet<>();
    try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, "*.json")) {
      files.forEach(file -> found.add(file.getFileName().toString()));
    } catch (DirectoryIteratorException failure) {
      throw failure.getCause();
    }
    // Nobody who publishes waits for what is read here.
    Map<String, Entry> unknown = new HashMap<>();
    for (String name : found) {
      if (!isKnown(name)) {
        unknown.put(name, entryOnDisk(name));
      }
    }
    lock.lock();
    try {
      unknown.forEach((name, entry) -> {
        if (!isKnown(name)) {
          forget(name);
        }
        remember(name, entry);
        Instant time = timeOf(name);
        last = time.isAfter(last) ? time : last;
      });
      for (String name : List.copyOf(entries.keySet())) {
        if (!found.contains(name)
            && !writing.contains(name)
            && !Files.exists(directory.resolve(name))) {
          forget(name);
        }
      }
    } finally {
      lock.unlock();
    }
  }

  /** Also whom it concerns; one that could not be read has no subject. */
  private boolean isKnown(String name) {
    lock.lock();
    try {
      Entry entry = entries.get(name);
      return entry != null && !entry.subject.isEmpty();
    } finally {
      lock.unlock();
    }
  }

  private Entry entryOnDisk(String name) {
    try {
      SpooledEvent found = read(name);
      return new Entry(
          found.lane() == null ? name : found.lane(), found.subject().intern());
    } catch (IOException | IllegalArgumentException unreadable) {
      return new Entry(name, ""); // found out and told when it is replayed
    }
  }

  private static Instant timeOf(String name) {
    try {
      return SpooledEvent.time(name.substring(0, 4) + "-" + name.substring(4, 6) + "-"
          + name.substring(6, 11) + ":" + name.substring(11, 13) + ":" + name.substring(13, 26));
    } catch (IndexOutOfBoundsException | IllegalArgumentException foreign) {
      return Instant.MIN;
    }
  }

  /** The oldest records that are not of the given lanes and subjects, of each lane one. */
  List<String> next(int most, Set<String> withoutLanes, Set<String> withoutSubjects) {
    List<String> names = new ArrayList<>();
    lock.lock();
    try {
      for (String name : oldestOfLanes) {
        if (names.size() == most) {
          break;
        }
        Entry entry = Objects.requireNonNull(entries.get(name));
        // One that is being written is not there yet, and keeps back those behind it.
        if (!withoutLanes.contains(entry.lane)
            && !withoutSubjects.contains(entry.subject)
            && !writing.contains(name)) {
          names.add(name);
        }
      }
      return names;
    } finally {
      lock.unlock();
    }
  }

  /** What is blocked when the record is: all of the same aggregate, or itself. */
  String laneOf(String name) {
    lock.lock();
    try {
      Entry entry = entries.get(name);
      return entry == null ? name : entry.lane;
    } finally {
      lock.unlock();
    }
  }

  SpooledEvent read(String name) throws IOException {
    return SpooledEvent.parse(Files.readAllBytes(directory.resolve(name)));
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
    Files.createDirectories(quarantine);
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
    boolean interrupted = false;
    try {
      while (true) {
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
          channel.force(true);
          return;
        } catch (ClosedByInterruptException again) {
          interrupted = Thread.interrupted();
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
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
    Path here = directory.toRealPath();
    if (!REPLAYED_HERE.add(here)) {
      return null;
    }
    FileChannel channel = null;
    boolean locked = false;
    try {
      channel = FileChannel.open(
          directory.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
      locked = channel.tryLock() != null;
      return locked ? new Replaying(channel, here) : null;
    } finally {
      if (!locked) {
        REPLAYED_HERE.remove(here);
        if (channel != null) {
          channel.close();
        }
      }
    }
  }

  /** Closing it gives the right back. */
  record Replaying(FileChannel channel, Path here) implements AutoCloseable {
    @Override
    public void close() throws IOException {
      try {
        channel.close();
      } finally {
        REPLAYED_HERE.remove(here);
      }
    }
  }
}
