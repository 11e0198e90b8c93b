package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * The decisions on this machine, one line of JSON each, in a file of the user in a folder of the operator's. It holds
 * nothing of a tool's input, and at most two files of {@link #LIMIT} bytes. No decision depends on it.
 */
final class DecisionLog {
  static final long LIMIT = 1 << 20;

  private static final int MAX_NAME = 200;

  private final Path file;
  private final @Nullable String agentId;
  private volatile @Nullable ToolUse toolUse;

  /**
   * The log of a user.
   *
   * @param agentId that of the operator; null for the one of each event
   */
  DecisionLog(Path folder, String caller, @Nullable String agentId) {
    this.agentId = agentId;
    String name = caller.replaceAll("[^A-Za-z0-9_.-]", "_");
    file = folder.resolve("agent-hook-" + name + ".jsonl");
  }

  /** What the next decision is about. */
  void about(ToolUse use) {
    toolUse = use;
  }

  /** Adds a decision. */
  void append(String decision, String reason) {
    StringBuilder line = new StringBuilder("{\"time\":\"").append(Instant.now());
    line.append("\",\"decision\":\"").append(decision).append('"');
    ToolUse use = toolUse;
    if (use != null) {
      line.append(",\"tool\":");
      Json.quote(cut(use.toolName()), line);
      String agent = agentId == null ? use.agentId() : agentId;
      if (agent != null) {
        line.append(",\"agent\":");
        Json.quote(cut(agent), line);
      }
    }
    if (!reason.isEmpty()) {
      line.append(",\"reason\":");
      Json.quote(reason, line);
    }
    ByteBuffer bytes = UTF_8.encode(line.append("}\n").toString());
    try {
      if (mayBeAFile()) {
        write(bytes);
      }
    } catch (IOException | RuntimeException e) {
      // The doctor says when it cannot be written.
    }
  }

  /** Who opens a pipe waits for its reader. */
  private boolean mayBeAFile() throws IOException {
    try {
      return Files.readAttributes(file, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS)
          .isRegularFile();
    } catch (NoSuchFileException e) {
      return true;
    }
  }

  private void write(ByteBuffer bytes) throws IOException {
    try (FileChannel channel = open()) {
      if (channel.size() + bytes.remaining() <= LIMIT || !isRenamed(channel)) {
        channel.write(bytes);
        return;
      }
    }
    try (FileChannel channel = open()) {
      channel.write(bytes);
    }
  }

  private FileChannel open() throws IOException {
    // Not through a link that another user has put there.
    Set<OpenOption> options = Set.of(
        StandardOpenOption.CREATE,
        StandardOpenOption.WRITE,
        StandardOpenOption.APPEND,
        LinkOption.NOFOLLOW_LINKS);
    return FileChannel.open(
        file,
        options,
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
  }

  /**
   * Of those who find the file full one renames it, and not the one that has come in its place. The others write into
   * it all the same.
   */
  private boolean isRenamed(FileChannel full) throws IOException {
    synchronized (DecisionLog.class) {
      try (FileLock lock = full.tryLock()) {
        if (lock == null || !Files.exists(file) || Files.size(file) < full.size()) {
          return false;
        }
        Files.move(
            file,
            file.resolveSibling(file.getFileName() + ".1"),
            StandardCopyOption.REPLACE_EXISTING);
        return true;
      }
    }
  }

  private static String cut(String name) {
    return name.length() <= MAX_NAME ? name : name.substring(0, MAX_NAME);
  }
}
