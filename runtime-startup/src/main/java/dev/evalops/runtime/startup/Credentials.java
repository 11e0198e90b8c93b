package dev.evalops.runtime.startup;

import static java.util.Objects.requireNonNull;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * What a service logs in with. Given as a {@link Supplier}, it may change while the process runs:
 *
 * <pre>{@code
 * Postgres.builder(url).credentials(Credentials.fromFile("notes", Path.of("/run/secrets/notes-db"))).open();
 * }</pre>
 *
 * <p>A supplier is called at each login, and every few seconds to see whether there is something new, one call at a
 * time. So one that asks over the network keeps what it has until that is to be renewed, and gives the same until then.
 *
 * @param user the user; empty where a password or token is all that is wanted (Redis, NATS)
 * @param password the password or token, never printed
 */
public record Credentials(String user, String password) {
  /** Checks the values. */
  public Credentials {
    requireNonNull(user, "user");
    requireNonNull(password, "password");
  }

  /**
   * Returns a supplier that reads the password from a file, which may be rewritten or replaced at any time. The file is
   * read at each call, as UTF-8; white space at its end is removed. The supplier throws {@link UncheckedIOException}
   * while the file cannot be read or is empty.
   *
   * @param user the user; may be empty
   * @param passwordFile the file with the password or token alone
   * @return the supplier; thread-safe
   */
  public static Supplier<Credentials> fromFile(String user, Path passwordFile) {
    requireNonNull(user, "user");
    requireNonNull(passwordFile, "passwordFile");
    return () -> {
      try {
        String password = Files.readString(passwordFile).stripTrailing();
        if (password.isEmpty()) {
          throw unreadable(passwordFile, "empty");
        }
        return new Credentials(user, password);
      } catch (FileSystemException named) {
        throw new UncheckedIOException(named);
      } catch (CharacterCodingException noText) {
        throw new UncheckedIOException(unreadable(passwordFile, "not UTF-8"));
      } catch (IOException ofTheSystem) {
        throw new UncheckedIOException(unreadable(passwordFile, ofTheSystem.getMessage()));
      }
    };
  }

  private static FileSystemException unreadable(Path file, @Nullable String why) {
    return new FileSystemException(file.toString(), null, why);
  }

  /** Returns the user alone. */
  @Override
  public String toString() {
    return "Credentials[" + user + "]";
  }
}
