package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.jspecify.annotations.Nullable;

/**
 * The operator's properties file. It must belong to root, or to the owner of the program, who could change that as
 * well; and nobody else may be able to write it.
 *
 * @param required whether it must be there
 * @param program whose owner may own the file; null if only root may
 */
record ManagedFile(Path path, boolean required, @Nullable Path program) {
  static final Path DEFAULT = Path.of("/etc/evalops/agent-hook.properties");

  private static final int LIMIT = 64 * 1024;
  private static final int WRITABLE_BY_OTHERS = 022;

  /** The file at its usual place, which need not be there and which root alone may own. */
  static ManagedFile usual() {
    return new ManagedFile(DEFAULT, false, null);
  }

  /** A file that the installation names. */
  static ManagedFile named(Path path, @Nullable Path program) {
    return new ManagedFile(path, true, program);
  }

  /**
   * Reads the file.
   *
   * @param known the keys that it may have
   * @param problems get what is wrong with it
   * @return its values as they stand there; empty if it is not there
   */
  Map<String, String> read(List<String> known, List<String> problems) {
    try {
      checkOwner();
      return parse(text(), known, problems);
    } catch (UnusableException e) {
      problems.add(path + " " + e.getMessage());
    } catch (NoSuchFileException e) {
      if (required || Files.isSymbolicLink(path)) {
        problems.add(path + " does not exist");
      }
    } catch (CharacterCodingException e) {
      problems.add(path + " is not UTF-8");
    } catch (IOException e) {
      problems.add(path + " cannot be read");
    }
    return Map.of();
  }

  /** The file is not fit for use; the message completes "the file …". */
  private static final class UnusableException extends Exception {
    private static final long serialVersionUID = 1L;

    UnusableException(String message) {
      super(message);
    }
  }

  private void checkOwner() throws IOException, UnusableException {
    Map<String, Object> attributes;
    try {
      attributes = Files.readAttributes(path, "unix:uid,mode,isRegularFile");
    } catch (UnsupportedOperationException e) { // Windows
      if (Files.exists(path)) {
        throw new UnusableException("has an owner that cannot be checked on this system");
      }
      throw new NoSuchFileException(path.toString());
    }
    if (!Boolean.TRUE.equals(attributes.get("isRegularFile"))) {
      throw new UnusableException("is not a regular file");
    }
    Object owner = attributes.get("uid");
    if (!Integer.valueOf(0).equals(owner) && !ownsProgram(owner)) {
      throw new UnusableException(
          program == null ? "must belong to root" : "must belong to root or the program's owner");
    }
    if (!(attributes.get("mode") instanceof Integer mode) || (mode & WRITABLE_BY_OTHERS) != 0) {
      throw new UnusableException("must not be writable by group or others");
    }
  }

  private boolean ownsProgram(@Nullable Object owner) {
    try {
      return program != null && Files.getAttribute(program, "unix:uid").equals(owner);
    } catch (IOException e) {
      return false;
    }
  }

  private String text() throws IOException, UnusableException {
    byte[] bytes;
    try (InputStream in = Files.newInputStream(path)) {
      bytes = in.readNBytes(LIMIT + 1);
    }
    if (bytes.length > LIMIT) {
      throw new UnusableException("is longer than " + LIMIT + " bytes");
    }
    return UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
  }

  /** Whether it can be shown: a line that has got mixed up may begin with a secret. */
  private static boolean isName(Object key) {
    String name = key.toString();
    boolean shown = name.startsWith("EVALOPS_");
    for (int i = 0; i < name.length(); i++) {
      char c = name.charAt(i);
      shown &= c == '_' || (c >= 'A' && c <= 'Z');
    }
    return shown;
  }

  private Map<String, String> parse(String text, List<String> known, List<String> problems)
      throws IOException, UnusableException {
    Map<String, String> values = new HashMap<>();
    Properties properties = new Properties() {
      private static final long serialVersionUID = 1L;

      @Override
      public synchronized @Nullable Object put(Object key, Object value) {
        if (!known.contains(key)) {
          problems.add(path + " has an unknown key" + (isName(key) ? ": " + key : ""));
        } else if (values.put((String) key, (String) value) != null) {
          problems.add(path + " has " + key + " twice");
        }
        return null;
      }
    };
    try {
      properties.load(new StringReader(text));
    } catch (IllegalArgumentException e) {
      throw new UnusableException("has a malformed \\u escape");
    }
    return values;
  }
}
