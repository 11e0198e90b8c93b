package dev.evalops.hook.install;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A model on this machine that wants one shell command to be run, and then is done. It speaks as much of the protocols
 * of the hosts as that takes.
 */
final class ModelServer implements AutoCloseable {
  private static final int TIMEOUT_MILLIS = 30_000;
  private static final int MAX_BODY = 16 << 20;

  private final ServerSocket server;
  private final String command;

  /** Begins the path of every request, so that no other process of this machine can speak for the host. */
  private final String secret = "/" + UUID.randomUUID();

  private final CompletableFuture<String> result = new CompletableFuture<>();
  private volatile boolean asked;

  private ModelServer(ServerSocket server, String command) {
    this.server = server;
    this.command = command;
  }

  static ModelServer start(String command) throws IOException {
    ModelServer model =
        new ModelServer(new ServerSocket(0, 0, InetAddress.getLoopbackAddress()), command);
    daemon(model::accept);
    return model;
  }

  String url() {
    return "http://127.0.0.1:" + server.getLocalPort() + secret;
  }

  /** Whether the command was asked for. */
  boolean asked() {
    return asked;
  }

  /** The request in which the host tells what has become of the command. */
  Optional<String> result() {
    return Optional.ofNullable(result.getNow(null));
  }

  /** Waits for the end of a host, or for its word. */
  void await(Process host, Duration timeout) throws InterruptedException {
    try {
      CompletableFuture.anyOf(result, host.onExit()).get(timeout.toMillis(), TimeUnit.MILLISECONDS);
    } catch (ExecutionException | TimeoutException e) {
      // What has been told until now is all.
    }
  }

  private static void daemon(Runnable task) {
    Thread thread = new Thread(task, "model");
    thread.setDaemon(true);
    thread.start();
  }

  private void accept() {
    while (!server.isClosed()) {
      try {
        Socket socket = server.accept();
        daemon(() -> serve(socket));
      } catch (IOException e) {
        // It is closed, or the next one comes.
      }
    }
  }

  private void serve(Socket connection) {
    try (Socket socket = connection) {
      socket.setSoTimeout(TIMEOUT_MILLIS);
      InputStream in = new BufferedInputStream(socket.getInputStream());
      String request = line(in);
      int length = 0;
      boolean chunked = false;
      for (String line = line(in); !line.isEmpty(); line = line(in)) {
        if (line.regionMatches(true, 0, "content-length:", 0, 15)) {
          length = Integer.parseInt(line.substring(15).strip());
        }
        chunked |= line.regionMatches(true, 0, "transfer-encoding:", 0, 18);
      }
      String body =
          chunked ? chunks(in) : new String(in.readNBytes(Math.min(length, MAX_BODY)), UTF_8);
      String target = request.split(" ", 3).length < 2 ? "" : request.split(" ", 3)[1];
      String path = target.startsWith(secret + "/") ? target.substring(secret.length()) : "";
      String events = "";
      if (path.contains("/messages") && !path.contains("count_tokens")) {
        events = messages(body);
      } else if (path.endsWith("/responses")) {
        events = responses(body);
      } else if (path.endsWith("/chat/completions")) {
        events = completions(body);
      } else if (path.contains(":streamGenerateContent")) {
        events = contents(body);
      }
      byte[] answer = (events.isEmpty() ? "{}" : events).getBytes(UTF_8);
      String head = "HTTP/1.1 " + (events.isEmpty() ? "404 Not Found" : "200 OK")
          + "\r\nContent-Type: "
          + (events.isEmpty() ? "application/json" : "text/event-stream")
          + "\r\nConnection: close\r\nContent-Length: " + answer.length + "\r\n\r\n";
      OutputStream out = socket.getOutputStream();
      out.write(head.getBytes(UTF_8));
      out.write(answer);
      out.flush();
    } catch (IOException | RuntimeException e) {
      // The host notices, and asks again.
    }
  }

  private static String line(InputStream in) throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (int c = in.read(); c != '\n'; c = in.read()) {
      if (c < 0) {
        throw new IOException("the request does not end");
      }
      if (c != '\r') {
        line.write(c);
      }
    }
    return line.toString(UTF_8);
  }

  private static String chunks(InputStream in) throws IOException {
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    while (true) {
      int size = Integer.parseInt(line(in).split(";", 2)[0].strip(), 16);
      body.write(in.readNBytes(size));
      line(in);
      if (size == 0 || body.size() > MAX_BODY) {
        return body.toString(UTF_8);
      }
    }
  }

  /** Anthropic's, of Claude Code. */
  private String messages(String body) {
    boolean told = body.contains("\"tool_result\"");
    if (told) {
      result.complete(body);
    }
    // It also asks small questions of its own, without tools.
    boolean call = !told && body.contains("\"name\":\"Bash\"");
    asked |= call;
    String block = call
        ? "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"Bash\",\"input\":{}}"
        : "{\"type\":\"text\",\"text\":\"\"}";
    String delta = call
        ? "{\"type\":\"input_json_delta\",\"partial_json\":" + JsonDocument.quote(input("command"))
            + "}"
        : "{\"type\":\"text_delta\",\"text\":\"done\"}";
    return event(
            "message_start",
            "\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\","
                + "\"model\":\"canary\",\"content\":[],"
                + "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}")
        + event("content_block_start", "\"index\":0,\"content_block\":" + block)
        + event("content_block_delta", "\"index\":0,\"delta\":" + delta)
        + event("content_block_stop", "\"index\":0")
        + event(
            "message_delta",
            "\"delta\":{\"stop_reason\":\"" + (call ? "tool_use" : "end_turn")
                + "\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":1}")
        + event("message_stop", "\"x\":0");
  }

  /** OpenAI's, of Codex. */
  private String responses(String body) {
    boolean told = body.contains("\"function_call_output\"");
    if (told) {
      result.complete(body);
    }
    asked |= !told;
    // Not every model's request names its tools.
    boolean older = body.contains("\"name\":\"shell_command\"");
    String item = told
        ? "{\"type\":\"message\",\"role\":\"assistant\",\"id\":\"m1\","
            + "\"content\":[{\"type\":\"output_text\",\"text\":\"done\"}]}"
        : "{\"type\":\"function_call\",\"id\":\"f1\",\"call_id\":\"call_1\",\"name\":\""
            + (older ? "shell_command" : "exec_command") + "\",\"arguments\":"
            + JsonDocument.quote(input(older ? "command" : "cmd")) + "}";
    return event("response.created", "\"response\":{\"id\":\"r1\"}")
        + event("response.output_item.done", "\"item\":" + item)
        + event(
            "response.completed",
            "\"response\":{\"id\":\"r1\",\"usage\":{\"input_tokens\":1,"
                + "\"input_tokens_details\":null,\"output_tokens\":1,"
                + "\"output_tokens_details\":null,\"total_tokens\":2}}");
  }

  /** OpenAI's older one, of Qwen Code and Copilot CLI. */
  private String completions(String body) {
    boolean told = body.contains("\"role\":\"tool\"");
    if (told) {
      result.complete(body);
    }
    boolean qwen = body.contains("\"name\":\"run_shell_command\"");
    boolean call = !told && (qwen || body.contains("\"name\":\"bash\""));
    asked |= call;
    String input = "{\"command\":" + JsonDocument.quote(command)
        + ",\"description\":\"x\",\"is_background\":false}";
    String delta = call
        ? "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"c1\","
            + "\"type\":\"function\",\"function\":{\"name\":\""
            + (qwen ? "run_shell_command" : "bash") + "\",\"arguments\":"
            + JsonDocument.quote(input) + "}}]}"
        : "{\"role\":\"assistant\",\"content\":\"done\"}";
    return chunk(delta, "null") + chunk("{}", call ? "\"tool_calls\"" : "\"stop\"")
        + "data: [DONE]\n\n";
  }

  private static String chunk(String delta, String end) {
    return "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,"
        + "\"model\":\"canary\",\"choices\":[{\"index\":0,\"delta\":"
        + delta + ",\"finish_reason\":" + end
        + "}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n";
  }

  /** Google's, of Gemini CLI. */
  private String contents(String body) {
    boolean told = body.contains("\"functionResponse\"");
    if (told) {
      result.complete(body);
    }
    boolean call = !told && body.contains("\"name\":\"run_shell_command\"");
    asked |= call;
    String part = call
        ? "{\"functionCall\":{\"name\":\"run_shell_command\",\"args\":{\"command\":"
            + JsonDocument.quote(command) + ",\"description\":\"x\"}}}"
        : "{\"text\":\"done\"}";
    return "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" + part
        + "]},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":1,"
        + "\"candidatesTokenCount\":1,\"totalTokenCount\":2}}\n\n";
  }

  private String input(String name) {
    return "{\"" + name + "\":" + JsonDocument.quote(command) + "}";
  }

  private static String event(String type, String members) {
    return "event: " + type + "\ndata: {\"type\":\"" + type + "\"," + members + "}\n\n";
  }

  @Override
  public void close() throws IOException {
    server.close();
  }
}
