package dev.evalops.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Makes a table and a chart of JMH's results, the peers of one benchmark beside each other. */
final class BenchReport {
  private static final int LABELS = 250;
  private static final int BARS = 420;
  private static final int LINE = 22;

  /** What is compared with each other, by its title. */
  private final Map<String, List<Result>> groups = new TreeMap<>();

  private BenchReport() {}

  /**
   * Writes results.md and results.svg.
   *
   * @param arguments the file that JMH has written with -rf json, and the folder to write to
   */
  public static void main(String[] arguments) throws IOException {
    BenchReport report = of(Files.readString(Path.of(arguments[0])));
    Path folder = Files.createDirectories(Path.of(arguments[1]));
    Files.writeString(folder.resolve("results.md"), report.table());
    Files.writeString(folder.resolve("results.svg"), report.chart());
    System.out.println(report.table());
  }

  static BenchReport of(String json) {
    BenchReport report = new BenchReport();
    for (JsonNode run : JsonMapper.shared().readTree(json)) {
      Result result = Result.of(run);
      report.groups.computeIfAbsent(titleOf(run), title -> new ArrayList<>()).add(result);
    }
    return report;
  }

  private static String titleOf(JsonNode run) {
    String method = run.path("benchmark").asString();
    String type = method.substring(0, method.lastIndexOf('.'));
    String name = type.substring(type.lastIndexOf('.') + 1);
    StringBuilder title = new StringBuilder(name.replaceFirst("Benchmark$", ""));
    run.path("params")
        .properties()
        .forEach(parameter -> title
            .append(", ")
            .append(parameter.getKey())
            .append(' ')
            .append(parameter.getValue().asString()));
    int threads = run.path("threads").asInt();
    title.append(threads == 1 ? "" : ", " + threads + " threads");
    return title
        .append(" (")
        .append(run.path("primaryMetric").path("scoreUnit").asString())
        .append(')')
        .toString();
  }

  String table() {
    StringBuilder table = new StringBuilder();
    groups.forEach((title, results) -> {
      table.append("**").append(title).append("**\n\n| | score | bytes |\n| --- | --- | --- |\n");
      for (Result result : results) {
        table.append("| ").append(result.name()).append(" | ").append(number(result.score()));
        if (!Double.isNaN(result.error())) {
          table.append(" ± ").append(number(result.error()));
        }
        table.append(" | ");
        table.append(Double.isNaN(result.bytes()) ? "" : number(result.bytes())).append(" |\n");
      }
      table.append('\n');
    });
    return table.toString();
  }

  String chart() {
    StringBuilder bars = new StringBuilder();
    int y = 10;
    for (Map.Entry<String, List<Result>> group : groups.entrySet()) {
      y += LINE;
      bars.append(text(10, y, "start", " font-weight=\"bold\"", group.getKey()));
      y += 8;
      double most = group.getValue().stream().mapToDouble(Result::upper).max().orElse(1);
      for (Result result : group.getValue()) {
        bars.append(text(LABELS - 8, y + 15, "end", "", result.name()));
        int width = length(result.score(), most);
        bars.append("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#4a6fa5\"/>\n"
            .formatted(LABELS, y + 3, Math.max(1, width), LINE - 6));
        int upper = length(result.upper(), most);
        bars.append("<path d=\"M%d %dH%d\" stroke=\"#1d2b3f\"/>\n"
            .formatted(LABELS + width, y + LINE / 2, LABELS + upper));
        bars.append(text(LABELS + upper + 8, y + 15, "start", "", number(result.score())));
        y += LINE;
      }
      y += 10;
    }
    int width = LABELS + BARS + 100;
    return """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
        <rect width="%d" height="%d" fill="#ffffff"/>
        %s</svg>
        """.formatted(width, y, width, y, bars);
  }

  private static int length(double score, double most) {
    return most <= 0 ? 0 : (int) Math.round(BARS * score / most);
  }

  private static String text(int x, int y, String anchor, String style, String text) {
    String escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    return "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\" fill=\"#1d2b3f\"%s>%s</text>\n"
        .formatted(x, y, anchor, style, escaped);
  }

  private static String number(double value) {
    boolean whole = value >= 1000 || value == Math.rint(value);
    String text = whole
        ? String.format(Locale.ROOT, "%,.0f", value)
        : String.format(Locale.ROOT, "%.3g", value);
    return text.replace(',', ' ');
  }

  /** One measurement; error and bytes are NaN when JMH has none. */
  private record Result(String name, double score, double error, double bytes) {
    static Result of(JsonNode run) {
      String name = run.path("benchmark").asString();
      JsonNode metric = run.path("primaryMetric");
      JsonNode bytes = run.path("secondaryMetrics").path("gc.alloc.rate.norm").path("score");
      return new Result(
          name.substring(name.lastIndexOf('.') + 1),
          metric.path("score").asDouble(),
          // JMH writes "NaN" when there are too few measurements.
          metric.path("scoreError").isNumber() ? metric.path("scoreError").asDouble() : Double.NaN,
          bytes.isNumber() ? Math.rint(bytes.asDouble()) : Double.NaN);
    }

    double upper() {
      return Double.isNaN(error) ? score : score + error;
    }
  }
}
