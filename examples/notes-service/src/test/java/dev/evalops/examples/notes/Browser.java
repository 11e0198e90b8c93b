package dev.evalops.examples.notes;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.awaitility.Awaitility;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** A page in a headless Chromium, driven over the DevTools protocol. */
final class Browser implements AutoCloseable {
  private static final Duration SOON = Duration.ofMinutes(3);
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final Pattern ENDPOINT = Pattern.compile("DevTools listening on (ws://\\S+)");

  private final Process process;
  private final Path profile;
  private final HttpClient client = HttpClient.newHttpClient();
  private final Map<Integer, CompletableFuture<JsonNode>> calls = new ConcurrentHashMap<>();
  private final Queue<String> problems = new ConcurrentLinkedQueue<>();
  private final AtomicInteger number = new AtomicInteger();
  private WebSocket socket;
  private String session = "";

  private Browser(Process process, Path profile) {
    this.process = process;
    this.profile = profile;
  }

  /** Chromium or Google Chrome, if one is on the path. */
  static Optional<Path> executable() {
    return Stream.of("chromium", "google-chrome", "chromium-browser")
        .flatMap(name -> Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
            .map(folder -> Path.of(folder, name)))
        .filter(Files::isExecutable)
        .findFirst();
  }

  static Browser open(Path executable, URI page) throws Exception {
    Path profile = Files.createTempDirectory("notes-browser");
    Process process = new ProcessBuilder(
            executable.toString(),
            "--headless=new",
            "--no-sandbox", // it does not start as root otherwise; it sees our own page alone
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--window-size=1100,900",
            "--user-data-dir=" + profile,
            "--remote-debugging-port=0",
            "about:blank")
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start();
    Browser browser = new Browser(process, profile);
    try {
      browser.connect();
      browser.call("Page.navigate", Map.of("url", page.toString()));
      return browser;
    } catch (Throwable e) {
      browser.close();
      throw e;
    }
  }

  private void connect() throws Exception {
    BufferedReader lines = process.errorReader();
    CompletableFuture<URI> endpoint = new CompletableFuture<>();
    Thread.ofVirtual().name("browser-log").start(() -> {
      StringBuilder said = new StringBuilder();
      try {
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
          said.append(line).append('\n');
          Matcher found = ENDPOINT.matcher(line);
          if (found.find()) {
            endpoint.complete(URI.create(found.group(1)));
          }
        }
      } catch (IOException e) {
        said.append(e);
      }
      endpoint.completeExceptionally(new IOException("Chromium did not start:\n" + said));
    });
    socket = client
        .newWebSocketBuilder()
        .buildAsync(endpoint.get(SOON.toSeconds(), TimeUnit.SECONDS), new Receiver())
        .get(SOON.toSeconds(), TimeUnit.SECONDS);
    String target = call("Target.createTarget", Map.of("url", "about:blank"))
        .get("targetId")
        .asString();
    session = call("Target.attachToTarget", Map.of("targetId", target, "flatten", true))
        .get("sessionId")
        .asString();
    for (String domain : List.of("Page", "Runtime", "Log")) {
      call(domain + ".enable", Map.of());
    }
  }

  private JsonNode call(String method, Map<String, ?> parameters) throws Exception {
    int id = number.incrementAndGet();
    CompletableFuture<JsonNode> answer = new CompletableFuture<>();
    calls.put(id, answer);
    String message = JSON.writeValueAsString(
        session.isEmpty()
            ? Map.of("id", id, "method", method, "params", parameters)
            : Map.of("id", id, "method", method, "params", parameters, "sessionId", session));
    socket.sendText(message, true).get(SOON.toSeconds(), TimeUnit.SECONDS);
    return answer.get(SOON.toSeconds(), TimeUnit.SECONDS);
  }

  /** The value of an expression in the page, as text. */
  String evaluate(String expression) throws Exception {
    JsonNode answer = call(
        "Runtime.evaluate",
        Map.of("expression", expression, "returnByValue", true, "awaitPromise", true));
    if (answer.has("exceptionDetails")) {
      throw new IllegalStateException(expression + ": " + answer.get("exceptionDetails"));
    }
    return answer.get("result").path("value").asString("");
  }

  /** Waits until an expression in the page is true. */
  void await(String condition) {
    Awaitility.await(condition)
        .atMost(SOON)
        .pollInSameThread()
        .until(() -> evaluate("String(Boolean(" + condition + "))").equals("true"));
  }

  /** Clicks on what the selector finds, once it is there, seen and enabled. */
  void click(String selector) throws Exception {
    String element = "document.querySelector('" + selector + "')";
    await(element + "?.checkVisibility() && !" + element + ".disabled");
    evaluate(element + ".click()");
  }

  /** Types into the field that the selector finds, as a person does. */
  void type(String selector, String text) throws Exception {
    evaluate("document.querySelector('" + selector + "').focus()");
    call("Input.insertText", Map.of("text", text));
  }

  /** Exceptions of the page's script, and what the browser has to complain of, such as its security policy. */
  List<String> problems() {
    return List.copyOf(problems);
  }

  private final class Receiver implements WebSocket.Listener {
    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
      text.append(data);
      if (last) {
        JsonNode message = JSON.readTree(text.toString());
        text.setLength(0);
        receive(message);
      }
      from.request(1);
      return null;
    }
  }

  private void receive(JsonNode message) {
    if (message.has("id")) {
      CompletableFuture<JsonNode> call = calls.remove(message.get("id").asInt());
      if (message.has("error")) {
        call.completeExceptionally(
            new IllegalStateException(message.get("error").toString()));
      } else {
        call.complete(message.get("result"));
      }
    } else if (message.path("method").asString("").equals("Runtime.exceptionThrown")) {
      problems.add(message.get("params").toString());
    } else if (message.path("method").asString("").equals("Log.entryAdded")) {
      JsonNode entry = message.get("params").get("entry");
      // An answer such as 503 is an entry, too; the page shows it.
      if (!entry.get("source").asString().equals("network")) {
        problems.add(entry.toString());
      }
    }
  }

  @Override
  public void close() throws Exception {
    client.shutdownNow();
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly().waitFor();
    Awaitility.await().atMost(SOON).ignoreExceptions().until(this::deleted);
  }

  /** What a process of the browser writes while its last is going makes this fail, and be tried again. */
  private boolean deleted() throws IOException {
    Demo.delete(profile);
    return true;
  }
}
