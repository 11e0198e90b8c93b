package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * The approvals that were asked for and not used yet: one file for each call, named by the call's digest. An approval
 * that is used leaves a file of its own, which can be made only once; so it is used once, by whichever process or
 * thread is first.
 *
 * <p>They are as safe as their folder: who can write it can use an approval twice, though never for another call than
 * the approved one.
 */
final class Tickets {
  /** From the request on. */
  static final Duration VALID_FOR = Duration.ofMinutes(15);

  /** What is older is deleted; longer than any ticket is valid. */
  private static final Duration KEPT_FOR = Duration.ofDays(1);

  private static final int MAX_BYTES = 4096;
  private static final String SPENT = "spent-";
  private static final char[] HEX = "0123456789abcdef".toCharArray();

  private final Path folder;
  private final String caller;

  /**
   * The tickets of one or more callers.
   *
   * @param folder made when it is needed; nobody else may be able to write it
   * @param caller the user who calls
   */
  Tickets(Path folder, String caller) {
    this.folder = folder;
    this.caller = caller;
  }

  /** Those in the home of the user of this process, which the environment names only if the system knows none. */
  static Tickets ofUser() {
    Path home = Path.of(System.getProperty("user.home"));
    String named = System.getenv("HOME");
    if (!home.isAbsolute() && named != null) {
      home = Path.of(named);
    }
    return new Tickets(
        home.resolve(".local/state/evalops-agent-hook/tickets"), System.getProperty("user.name"));
  }

  /**
   * An approval that was asked for.
   *
   * @param digest of the call
   * @param id of the request; blank while it is being made
   * @param created when the request was made, or began
   */
  record Ticket(String digest, String id, Instant created) {
    boolean isRequested() {
      return !id.isEmpty();
    }

    Instant validUntil() {
      return created.plus(VALID_FOR);
    }
  }

  /** What makes two calls the same one. */
  String digest(Action action) {
    ToolUse toolUse = action.toolUse();
    return digest(
        action.workspaceId().getBytes(UTF_8),
        action.agentId().getBytes(UTF_8),
        caller.getBytes(UTF_8),
        action.surface().getBytes(UTF_8),
        toolUse.toolName().getBytes(UTF_8),
        toolUse.workingDirectory(),
        toolUse.exactInput());
  }

  private static String digest(byte[]... parts) {
    MessageDigest sha256;
    try {
      sha256 = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java has SHA-256", e);
    }
    for (byte[] part : parts) {
      sha256.update(ByteBuffer.allocate(Integer.BYTES).putInt(0, part.length));
      sha256.update(part);
    }
    StringBuilder hex = new StringBuilder();
    for (byte b : sha256.digest()) {
      hex.append(HEX[(b >> 4) & 0xf]).append(HEX[b & 0xf]);
    }
    return hex.toString();
  }

  /** The ticket of a call; null if there is none that is still valid. */
  @Nullable
  Ticket find(String digest, Duration requestTimeout) throws Denial {
    Path file = folder.resolve(digest);
    try {
      Instant created = modified(file);
      String text;
      try (FileChannel channel =
          FileChannel.open(file, Set.of(StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS))) {
        ByteBuffer bytes = ByteBuffer.allocate(MAX_BYTES);
        while (channel.read(bytes) > 0) {}
        text = new String(bytes.array(), 0, bytes.position(), UTF_8);
      }
      boolean requested = text.endsWith("\n");
      Ticket ticket =
          new Ticket(digest, requested ? text.substring(0, text.length() - 1) : "", created);
      // A process that has died while it asked leaves a ticket without an id.
      Duration life = requested ? VALID_FOR : requestTimeout.plusSeconds(5);
      Duration age = Duration.between(created, Instant.now());
      if (age.compareTo(life) < 0 && age.compareTo(life.negated()) > 0) {
        return ticket;
      }
      if (modified(file).equals(created)) { // else it is another one by now
        Files.deleteIfExists(file);
      }
      return null;
    } catch (NoSuchFileException e) {
      return null;
    } catch (IOException e) {
      throw unusable(e);
    }
  }

  /** Begins a ticket; false if somebody else has. */
  boolean reserve(String digest) throws Denial {
    prepareFolder();
    try {
      create(folder.resolve(digest)).close();
      return true;
    } catch (FileAlreadyExistsException e) {
      return false;
    } catch (IOException e) {
      throw unusable(e);
    }
  }

  /** Writes the id of the request into a ticket that was reserved; one that was dropped meanwhile is made again. */
  Ticket requested(String digest, String id) throws Denial {
    Set<OpenOption> options = Set.of(
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE,
        LinkOption.NOFOLLOW_LINKS);
    try (FileChannel channel =
        FileChannel.open(folder.resolve(digest), options, mode("rw-------"))) {
      channel.write(UTF_8.encode(id + "\n"));
      channel.force(true);
      return new Ticket(digest, id, Instant.now());
    } catch (IOException e) {
      throw unusable(e);
    }
  }

  /** Deletes a ticket, unless there is another one for the call by now. */
  void drop(Ticket ticket) throws Denial {
    Path file = folder.resolve(ticket.digest());
    try {
      if (Files.readString(file).equals(ticket.isRequested() ? ticket.id() + "\n" : "")) {
        Files.deleteIfExists(file);
      }
    } catch (NoSuchFileException e) {
      // Somebody else was faster.
    } catch (IOException e) {
      throw unusable(e);
    }
  }

  /** Uses an approval up. Only the one caller who gets true may run the tool. */
  boolean spend(String workspaceId, Ticket ticket) throws Denial {
    String name = SPENT + digest(workspaceId.getBytes(UTF_8), ticket.id().getBytes(UTF_8));
    try {
      try (FileChannel spent = create(folder.resolve(name))) {
        spent.force(true);
      }
      try (FileChannel directory = FileChannel.open(folder)) {
        directory.force(true); // also after a power cut it is spent
      }
    } catch (FileAlreadyExistsException e) {
      drop(ticket);
      return false;
    } catch (IOException e) {
      throw unusable(e);
    }
    drop(ticket);
    return true;
  }

  private static FileChannel create(Path file) throws IOException {
    Set<OpenOption> options =
        Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
    return FileChannel.open(file, options, mode("rw-------"));
  }

  private void prepareFolder() throws Denial {
    try {
      Files.createDirectories(folder, mode("rwx------"));
      Set<PosixFilePermission> permissions =
          Files.getPosixFilePermissions(folder, LinkOption.NOFOLLOW_LINKS);
      if (permissions.contains(PosixFilePermission.GROUP_WRITE)
          || permissions.contains(PosixFilePermission.OTHERS_WRITE)) {
        throw Denial.failClosed("the approval tickets in " + folder + " can be changed by others");
      }
      Instant old = Instant.now().minus(KEPT_FOR);
      try (DirectoryStream<Path> files = Files.newDirectoryStream(folder)) {
        for (Path file : files) {
          if (modified(file).isBefore(old)) {
            Files.deleteIfExists(file);
          }
        }
      }
    } catch (NoSuchFileException e) {
      // Another call has cleared away what is old.
    } catch (IOException e) {
      throw unusable(e);
    }
  }

  private static Instant modified(Path file) throws IOException {
    return Files.getLastModifiedTime(file, LinkOption.NOFOLLOW_LINKS).toInstant();
  }

  private static FileAttribute<?> mode(String mode) {
    return PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(mode));
  }

  private Denial unusable(IOException e) {
    return Denial.failClosed("the approval tickets in " + folder + " cannot be used ("
        + e.getClass().getSimpleName() + ")");
  }
}
