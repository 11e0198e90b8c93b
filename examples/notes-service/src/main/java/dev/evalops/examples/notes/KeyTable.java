package dev.evalops.examples.notes;

import dev.evalops.runtime.auth.ApiKey;
import dev.evalops.runtime.auth.ApiKeyValidator;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Arrays;
import java.util.Optional;
import java.util.Set;
import javax.sql.DataSource;

/** The API keys in Postgres, found by their hash: who reads the table has no key. */
final class KeyTable implements ApiKeyValidator {
  private final DataSource db;

  KeyTable(DataSource db) {
    this.db = db;
  }

  @Override
  public Optional<ApiKey> validate(String key) throws SQLException {
    String sql = "SELECT id, organization_id, scopes FROM api_keys WHERE key_hash = ?";
    try (Connection connection = db.getConnection();
        PreparedStatement select = connection.prepareStatement(sql)) {
      select.setBytes(1, hash(key));
      try (ResultSet rows = select.executeQuery()) {
        return rows.next()
            ? Optional.of(
                new ApiKey(rows.getString(1), rows.getString(2), Set.copyOf(Arrays.asList((String[])
                    rows.getArray(3).getArray()))))
            : Optional.empty();
      }
    }
  }

  /** What is stored of a key. */
  static byte[] hash(String key) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(key.getBytes(StandardCharsets.UTF_8));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }
}
