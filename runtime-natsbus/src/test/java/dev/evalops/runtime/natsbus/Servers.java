package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.Message;
import io.nats.client.api.MessageInfo;
import io.nats.client.impl.NatsJetStreamMetaData;
import io.nats.client.impl.NatsMessage;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What the tests of a bus on a real server have in common. */
public final class Servers {
  private static final int NO_MESSAGE = 10_037;

  private Servers() {}

  /** Reconnects quickly, so that tests with restarts take no longer than they must. */
  public static NatsBus.Builder bus(NatsServer server) {
    return NatsBus.builder(server.url()).stream("NOTES")
        .subjectPrefix("notes.changes")
        .connectTimeout(Duration.ofSeconds(30))
        .configure(options ->
            options.reconnectWait(Duration.ofMillis(50)).reconnectJitter(Duration.ofMillis(10)));
  }

  /** An empty message of a stream, without a server. */
  static Message delivered(String reply) {
    return new NatsMessage("notes.changes.note.create", reply, new byte[0]) {
      @Override
      public boolean isJetStream() {
        return true;
      }

      @Override
      public NatsJetStreamMetaData metaData() {
        return new NatsJetStreamMetaData(this);
      }
    };
  }

  public static Event event(MessageInfo stored) {
    Map<String, List<String>> headers = new HashMap<>();
    if (stored.getHeaders() != null) {
      stored.getHeaders().forEach(headers::put);
    }
    return Event.read(headers, stored.getData());
  }

  /** Everything that a stream has, in order. */
  public static List<MessageInfo> stored(Connection connection, String stream) throws Exception {
    JetStreamManagement management = connection.jetStreamManagement();
    var state = management.getStreamInfo(stream).getStreamState();
    List<MessageInfo> messages = new ArrayList<>();
    for (long i = Math.max(1, state.getFirstSequence()); i <= state.getLastSequence(); i++) {
      try {
        messages.add(management.getMessage(stream, i));
      } catch (JetStreamApiException failure) {
        if (failure.getApiErrorCode() != NO_MESSAGE) { // deleted, or the account was full
          throw failure;
        }
      }
    }
    return messages;
  }
}
