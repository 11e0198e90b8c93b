package dev.evalops.benchmarks.peers;

import java.util.List;
import java.util.Map;

/** The samples of each service as a table, and some of its columns as a chart in the style of BenchReport's. */
record Report(List<Column> columns, Map<String, List<Map<Column, Double>>> samples) {
  private static final int LABELS = 250;
  private static final int BARS = 420;
  private static final int LINE = 22;

  private record Spread(double median, double lowest, double highest) {}

  private Spread spread(String service, Column column) {
    double[] sorted = samples.get(service).stream().mapToDouble(sample -> sample.get(column)).sorted().toArray();
    return new Spread(median(sorted), sorted[0], sorted[sorted.length - 1]);
  }

  static double median(double... sorted) {
    return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
  }

  String table() {
    StringBuilder table = new StringBuilder("|");
    columns.forEach(column -> table.append(" | ").append(column.title));
    table.append(" |\n| ---").append(" | ---".repeat(columns.size())).append(" |\n");
    for (String service : samples.keySet()) {
      table.append("| ").append(service);
      for (Column column : columns) {
        Spread of = spread(service, column);
        table.append(" | %s%s (%s–%s)".formatted(
            column.format(of.median), column.unit, column.format(of.lowest), column.format(of.highest)));
      }
      table.append(" |\n");
    }
    return table.toString();
  }

  String chart() {
    StringBuilder bars = new StringBuilder();
    int y = 10;
    for (Column column : columns.stream().filter(c -> c.charted).toList()) {
      y += LINE;
      bars.append(text(10, y, "start", " font-weight=\"bold\"", column.title));
      y += 8;
      double most = samples.keySet().stream().mapToDouble(s -> spread(s, column).highest).max().orElse(1);
      for (String service : samples.keySet()) {
        Spread of = spread(service, column);
        int end = LABELS + length(of.highest, most);
        bars.append(text(LABELS - 8, y + 15, "end", "", service.replace("`", "")));
        bars.append("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#4a6fa5\"/>\n"
            .formatted(LABELS, y + 3, Math.max(1, length(of.median, most)), LINE - 6));
        bars.append("<path d=\"M%d %dH%d\" stroke=\"#1d2b3f\"/>\n"
            .formatted(LABELS + length(of.lowest, most), y + LINE / 2, end));
        bars.append(text(end + 8, y + 15, "start", "", column.format(of.median) + column.unit));
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

  private static int length(double value, double most) {
    return most <= 0 ? 0 : (int) Math.round(BARS * value / most);
  }

  private static String text(int x, int y, String anchor, String style, String text) {
    String escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    return "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\" fill=\"#1d2b3f\"%s>%s</text>\n"
        .formatted(x, y, anchor, style, escaped);
  }
}
