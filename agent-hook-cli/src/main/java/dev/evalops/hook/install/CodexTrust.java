package dev.evalops.hook.install;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.lang.ProcessBuilder.Redirect;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * What Codex itself says of its hooks. It runs one of a user only once that is trusted, and again after each change of
 * it; until then it runs the tools and says nothing.
 */
final class CodexTrust {
  private static final long SECONDS = 30;
  private static final long LAST_SECONDS = 2;
  private static final Set<String> TRUSTED = Set.of("trusted", "managed");
  private static final String REVIEW = ": review it in Codex with /hooks";

  private static final int ID = 2;
  private static final String QUESTIONS = "{\"id\":1,\"method\":\"initialize\","
      + "\"params\":{\"clientInfo\":{\"name\":\"evalops-agent-hook\",\"version\":\"1\"}}}\n"
      + "{\"method\":\"initialized\"}\n"
      + "{\"id\":" + ID + ",\"method\":\"hooks/list\",\"params\":{\"cwds\":[\"/\"]}}\n";

  private CodexTrust() {}

  /**
   * Asks it.
   *
   * @param program of Codex
   * @param command of our entry
   * @return empty if Codex runs the hook, else why it does not
   * @throws IOException if it does not answer
   */
  static List<String> problems(Path program, Map<String, String> environment, String command)
      throws IOException {
    List<String> problems = new ArrayList<>();
    Set<String> states = new TreeSet<>();
    for (Object place : list(answer(program, environment), "data")) {
      for (Object error : list(place, "errors")) {
        problems.add("Codex does not understand its configuration: " + text(error, "message"));
      }
      for (Object hook : list(place, "hooks")) {
        if (!text(hook, "command").equals(command)
            || !text(hook, "eventName").equals("preToolUse")) {
          continue;
        }
        String state =
            Boolean.TRUE.equals(value(hook, "enabled")) ? text(hook, "trustStatus") : "disabled";
        if (TRUSTED.contains(state)) {
          return List.of();
        }
        states.add(state);
      }
    }
    if (problems.isEmpty()) {
      problems.add(
          states.isEmpty()
              ? "Codex does not find the hook in its configuration"
              : "Codex does not run the hook, which is " + String.join(" and ", states) + REVIEW);
    }
    return problems;
  }

  /** The result of the one question. */
  private static Object answer(Path program, Map<String, String> environment) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(program.toString(), "app-server");
    builder.environment().clear();
    builder.environment().putAll(environment);
    builder.redirectError(Redirect.DISCARD);
    Process process = builder.start();
    Thread limit = new Thread(() -> end(process, SECONDS), "codex-limit");
    limit.setDaemon(true);
    limit.start();
    try (OutputStream in = process.getOutputStream();
        BufferedReader out =
            new BufferedReader(new InputStreamReader(process.getInputStream(), UTF_8))) {
      in.write(QUESTIONS.getBytes(UTF_8));
      in.flush(); // it ends at the end of its input, with or without an answer
      for (String line = out.readLine(); line != null; line = out.readLine()) {
        if (parsed(line) instanceof Map<?, ?> message
            && message.get("id") instanceof BigDecimal id
            && id.compareTo(BigDecimal.valueOf(ID)) == 0) {
          if (message.get("result") instanceof Map<?, ?> result) {
            return result;
          }
          break;
        }
      }
    } catch (IOException e) {
      // It has ended, with or without a word.
    } finally {
      end(process, LAST_SECONDS);
    }
    throw new IOException("Codex does not say whether it trusts the hook" + REVIEW);
  }

  private static @Nullable Object parsed(String line) {
    try {
      return JsonDocument.parse(line).plain();
    } catch (NotUnderstoodException e) {
      return null;
    }
  }

  private static void end(Process process, long seconds) {
    try {
      if (process.waitFor(seconds, TimeUnit.SECONDS)) {
        return;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
  }

  private static @Nullable Object value(@Nullable Object object, String name) {
    return object instanceof Map<?, ?> map ? map.get(name) : null;
  }

  private static List<?> list(@Nullable Object object, String name) {
    return value(object, name) instanceof List<?> list ? list : List.of();
  }

  private static String text(@Nullable Object object, String name) {
    return value(object, name) instanceof String text ? text : "";
  }
}
