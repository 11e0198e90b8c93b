package dev.evalops.runtime.changejournal;

import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.util.Map;
import java.util.UUID;

/** A service that writes notes until it is killed. */
final class EndlessWriter {
  private EndlessWriter() {}

  public static void main(String[] arguments) throws Exception {
    try (Connection tx = DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
      tx.setClientInfo("ApplicationName", arguments[3]);
      tx.setAutoCommit(false);
      for (int i = 0; true; i++) {
        UUID id = UUID.randomUUID();
        try (PreparedStatement note = tx.prepareStatement("INSERT INTO notes VALUES (?)")) {
          note.setObject(1, id);
          note.executeUpdate();
        }
        ChangeJournal.mutation("note", id, "create")
            .by(Tx.ACTOR)
            .payload(Map.of("id", id))
            .metadata("source", "test")
            .write(tx);
        if (i % 5 == 4) {
          tx.rollback();
        } else {
          tx.commit();
        }
        if (i == 0) {
          System.out.write("writing\n".getBytes(StandardCharsets.US_ASCII));
          System.out.flush();
        }
      }
    }
  }
}
