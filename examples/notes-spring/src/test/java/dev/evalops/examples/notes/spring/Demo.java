package dev.evalops.examples.notes.spring;

import dev.evalops.examples.notes.spring.Steps.Answer;
import java.nio.file.Files;
import java.util.Map;

/** Runs the Spring service on embedded Postgres, Redis and NATS, and prints what a client sees. */
final class Demo {
  private Demo() {}

  public static void main(String[] args) throws Exception {
    try (Service service =
        new Service(NotesApplication.class, Files.createTempDirectory("notes-spring"))) {
      Map<String, Answer> answers = Steps.run(service);
      for (Steps.Step step : Steps.ALL) {
        Answer answer = answers.get(step.what());
        String body =
            answer.body().length() > 80 ? answer.body().substring(0, 80) + "…" : answer.body();
        System.out.printf(
            "%-18s %-6s %-28s %d  %s%n",
            step.what(), step.method(), shortened(step.path()), answer.status(), body);
      }
    }
  }

  private static String shortened(String path) {
    return path.length() > 28 ? path.substring(0, 27) + "…" : path;
  }
}
