package dev.evalops.runtime.changejournal;

import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;

/** Writes one change and says what came of it; knows protobuf by name alone. */
final class OneWriter {
  private OneWriter() {}

  record Note(String id, long version) {}

  public static void main(String[] arguments) throws Exception {
    Object payload = arguments[3].equals("record")
        ? new Note("1", 3)
        : Class.forName("com.google.protobuf.Timestamp")
            .getMethod("getDefaultInstance")
            .invoke(null);
    String said;
    try (Connection tx = DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
      tx.setAutoCommit(false);
      ChangeActor actor = new ChangeActor("user", "u-1", "org-1");
      long sequence = ChangeJournal.mutation("note", "1", "create")
          .by(actor)
          .payload(payload)
          .metadata("a", 1)
          .write(tx);
      tx.commit();
      said = "wrote " + sequence;
    } catch (IllegalStateException e) {
      said = e.getMessage();
    }
    System.out.write((said + "\n").getBytes(StandardCharsets.UTF_8));
    System.out.flush();
  }
}
