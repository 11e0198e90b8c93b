package dev.evalops.hook.install;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** A file that others write as well: it is changed as a whole or not at all, and what it was is kept beside it. */
final class SettingsFile {
  private static final int MAX_BYTES = 8 << 20;
  private static final DateTimeFormatter SECONDS =
      DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

  private final Path file;
  private final byte @Nullable [] bytes;
  private final String text;

  private SettingsFile(Path file, byte @Nullable [] bytes, String text) {
    this.file = file;
    this.bytes = bytes;
    this.text = text;
  }

  /**
   * Reads it, through a link if it is one.
   *
   * @throws NotUnderstoodException if it is not UTF-8 text of a sensible size
   */
  static SettingsFile read(Path path) throws IOException, NotUnderstoodException {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return new SettingsFile(path, null, "");
    }
    Path file;
    try {
      file = path.toRealPath();
    } catch (NoSuchFileException e) {
      throw new NotUnderstoodException("it is a link to a file that is not there");
    }
    if (!Files.isRegularFile(file)) {
      throw new NotUnderstoodException("it is not a file");
    }
    if (Files.size(file) > MAX_BYTES) {
      throw new NotUnderstoodException("it is larger than 8 MiB");
    }
    byte[] bytes = Files.readAllBytes(file);
    try {
      String text =
          StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
      if (text.startsWith("\ufeff")) {
        throw new NotUnderstoodException("it begins with a byte order mark");
      }
      return new SettingsFile(file, bytes, text);
    } catch (CharacterCodingException e) {
      throw new NotUnderstoodException("it is not UTF-8 text");
    }
  }

  String text() {
    return text;
  }

  boolean exists() {
    return bytes != null;
  }

  /**
   * Replaces it.
   *
   * @param mode of a file that was not there; the mode of one that was stays
   * @return the copy of what was there
   */
  Optional<Path> replace(String newText, String mode) throws IOException {
    Path folder = folder(mode);
    Optional<Path> backup = Optional.empty();
    Set<PosixFilePermission> permissions = PosixFilePermissions.fromString(mode);
    boolean there = Files.exists(file);
    if (!Arrays.equals(bytes, there ? Files.readAllBytes(file) : null)) {
      throw new IOException("it was changed by somebody else meanwhile; run the command again");
    }
    Path temporary = Files.createTempFile(folder, "." + file.getFileName(), ".tmp");
    try {
      try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
        ByteBuffer content = StandardCharsets.UTF_8.encode(newText);
        while (content.hasRemaining()) {
          channel.write(content);
        }
        channel.force(true);
      }
      PosixFileAttributeView view =
          Files.getFileAttributeView(temporary, PosixFileAttributeView.class);
      if (there) {
        PosixFileAttributes old = Files.readAttributes(file, PosixFileAttributes.class);
        PosixFileAttributes mine = view.readAttributes();
        if (!mine.owner().equals(old.owner())) {
          view.setOwner(old.owner());
        }
        if (!mine.group().equals(old.group())) {
          view.setGroup(old.group());
        }
        permissions = old.permissions();
        backup = Optional.of(backup());
      }
      view.setPermissions(permissions);
      Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(temporary);
    }
    try (FileChannel directory = FileChannel.open(folder)) {
      directory.force(true);
    }
    return backup;
  }

  private Path folder(String mode) throws IOException {
    Path folder = file.toAbsolutePath().getParent();
    if (folder == null) {
      throw new IOException("it has no folder");
    }
    if (!Files.isDirectory(folder)) {
      // A folder can be entered by whoever may read the file.
      String folderMode = mode.replaceAll("r(.)[-x]", "r$1x");
      create(folder, PosixFilePermissions.fromString(folderMode));
    }
    return folder;
  }

  /** With the mode as it is given, whatever the umask. */
  private static void create(Path folder, Set<PosixFilePermission> mode) throws IOException {
    Path above = folder.getParent();
    if (above != null && !Files.isDirectory(above)) {
      create(above, mode);
    }
    Files.createDirectory(folder, PosixFilePermissions.asFileAttribute(mode));
    Files.setPosixFilePermissions(folder, mode);
  }

  /** Deletes it, if it is still what was read. */
  void delete() throws IOException {
    if (!Arrays.equals(bytes, Files.readAllBytes(file))) {
      throw new IOException("it was changed by somebody else meanwhile; run the command again");
    }
    Files.delete(file);
  }

  private Path backup() throws IOException {
    String name = file.getFileName() + ".before-evalops-" + SECONDS.format(Instant.now());
    for (int i = 1; ; i++) {
      Path backup = file.resolveSibling(i == 1 ? name : name + "-" + i);
      if (!Files.exists(backup, LinkOption.NOFOLLOW_LINKS)) {
        return Files.copy(file, backup, StandardCopyOption.COPY_ATTRIBUTES);
      }
    }
  }
}
