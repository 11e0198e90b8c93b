package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.identity.IdentityException;
import dev.evalops.runtime.mtls.CertificateRule;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.NavigableSet;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldNode;

/** The pages of docs/operations name what the published modules register, log, answer and read, and nothing else. */
class OperationsTest {
  private static final Pattern CODE = Pattern.compile("`([^`]+)`");

  /** Of the wire, or given to programs that are started; not read from the environment. */
  private static final Pattern NOT_READ =
      Pattern.compile("ACTION_DECISION_.*|DECISION_TYPE_.*|POSTGRES_.*"
          + "|ANTHROPIC_.*|OPENAI_.*|CLAUDE_CODE_.*|DISABLE_AUTOUPDATER|LC_ALL");

  /** Lines that a value's toString makes, by how they begin. */
  private static final Set<String> COMPOSED = Set.of(
      "certificates reloaded", "certificate reload failed; using the last good certificates");

  private static Inventory inventory;

  @BeforeAll
  static void read() throws IOException {
    inventory = Inventory.ofPublishedModules();
  }

  @Test
  void everyMetricIsListed() throws IOException {
    Set<String> listed = metrics();
    List<String> missing = new ArrayList<>();
    Set<String> gone = new TreeSet<>(listed);
    for (String meter : inventory.meters) {
      String name = (meter.matches("[._].*") ? "<prefix>" : "") + meter.replace('.', '_');
      List<String> found = listed.stream()
          .filter(each -> each.matches(Pattern.quote(name) + "(_seconds|_total)?"))
          .toList();
      if (found.size() != 1) {
        missing.add(name);
      }
      gone.removeAll(found);
    }
    assertThat(missing)
        .as("metrics that docs/operations/metrics.md does not list")
        .isEmpty();
    assertThat(gone)
        .as("metrics of docs/operations/metrics.md that no module registers")
        .isEmpty();
  }

  @Test
  void dashboardAndAlertsQueryListedMetricsAlone() throws IOException {
    Path files = Checkout.ROOT.resolve(
        "runtime-observability/src/main/resources/dev/evalops/runtime/observability");
    List<String> queries = new ArrayList<>();
    Pattern.compile("\"expr\": \"(.*)\",\n")
        .matcher(Files.readString(files.resolve("grafana-dashboard.json")))
        .results()
        .forEach(found -> queries.add(found.group(1).replace("\\\"", "\"")));
    assertThat(queries).isNotEmpty();
    Pattern.compile(" +expr: \\|\n((?: {10}.*\n)+)")
        .matcher(Files.readString(files.resolve("prometheus-rules.yaml")))
        .results()
        .forEach(found -> queries.add(found.group(1)));
    Set<String> queried = new TreeSet<>();
    for (String query : queries) {
      Set<String> names = queried(query);
      assertThat(names).as(query).isNotEmpty();
      queried.addAll(names);
    }
    queried.removeAll(metrics());
    assertThat(queried)
        .as("what is queried and not in docs/operations/metrics.md")
        .isEmpty();
  }

  private static Set<String> queried(String query) {
    String bare = query
        .replaceAll("\\{__name__=~\"\\.\\+(_\\w+)\"[^}]*}", " <prefix>$1 ")
        .replace("${prefix}", "<prefix>")
        .replaceAll("\\{[^}]*}|\\[[^]]*]|\"[^\"]*\"|\\b(by|ignoring|on) *\\([^)]*\\)", " ");
    return Pattern.compile("(?:<prefix>)?\\b[a-z_]\\w*(?! *\\()\\b(?! *\\()")
        .matcher(bare)
        .results()
        .map(found -> found.group().replaceFirst("_(bucket|sum|count)$", ""))
        .filter(
            name -> !Set.of("and", "or", "unless", "offset", "by", "group_left").contains(name))
        .collect(Collectors.toSet());
  }

  /** As Prometheus sees them. */
  private static Set<String> metrics() throws IOException {
    return names("metrics.md", "[a-z<][a-z_<>]+");
  }

  @Test
  void everyLogEventIsListed() throws IOException {
    assertThat(inventory.literals).as("messages that a value composes").containsAll(COMPOSED);
    Set<String> logged = new TreeSet<>(inventory.logEvents.keySet());
    logged.remove(Inventory.UNKNOWN);
    COMPOSED.forEach(begin -> logged.add(begin + "…"));
    assertSame("log-events.md", names("log-events.md", ".+"), logged);
  }

  @Test
  void everyLogEventIsListedWithItsLevels() throws IOException {
    List<String> wrong = new ArrayList<>();
    for (List<String> row : rows("log-events.md")) {
      CODE.matcher(row.getFirst()).results().map(found -> found.group(1)).forEach(event -> {
        Set<String> levels =
            new TreeSet<>(inventory.logEvents.getOrDefault(event, Set.of(Inventory.UNKNOWN)));
        Set<String> listed = Set.of(row.get(1).split(", (then )?"));
        boolean computed = levels.remove(Inventory.UNKNOWN);
        if (computed ? !listed.containsAll(levels) : !listed.equals(levels)) {
          wrong.add(event + ": " + levels + ", listed as " + listed);
        }
      });
    }
    assertThat(wrong).as("levels in docs/operations/log-events.md").isEmpty();
  }

  @Test
  void everyThreadIsListed() throws IOException {
    Set<String> threads = new TreeSet<>(inventory.threads);
    threads.remove(Inventory.UNKNOWN);
    assertSame(
        "threads-and-ports.md",
        rows("threads-and-ports.md").stream()
            .filter(row -> row.size() == 4 && !row.get(1).equals("JDK"))
            .flatMap(row -> CODE.matcher(row.getFirst()).results())
            .map(found -> found.group(1).replaceAll("<\\w+>", Inventory.UNKNOWN))
            .collect(Collectors.toCollection(TreeSet::new)),
        threads);
  }

  @Test
  void everyRedisKeyIsListed() throws IOException {
    assertSame(
        "storage.md",
        names("storage.md", "[a-z]+:<.*").stream()
            .map(key -> key.replaceFirst("<.*", ""))
            .collect(Collectors.toCollection(TreeSet::new)),
        inventory.redisKeys);
  }

  @Test
  void supportedVersionsAreThoseOfTheBuild() throws IOException {
    String pom = Files.readString(Checkout.ROOT.resolve("pom.xml"));
    List<String> wrong = new ArrayList<>();
    int found = 0;
    for (String line : Files.readAllLines(Checkout.ROOT.resolve("docs/operations/support.md"))) {
      Matcher property = Pattern.compile("`([a-z0-9-]+\\.version)`").matcher(line);
      if (property.find()) {
        found++;
        String version =
            pom.replaceFirst("(?s).*<" + property.group(1) + ">(\\d+\\.\\d+)[^<]*</.*", "$1");
        if (!Pattern.compile("\\| [^|]*\\b" + Pattern.quote(version) + "\\b")
            .matcher(line)
            .find()) {
          wrong.add(property.group(1) + " is " + version + ": " + line);
        }
      }
    }
    assertThat(wrong).isEmpty();
    assertThat(found).isGreaterThan(4);
  }

  @Test
  void everyErrorCodeIsListed_withItsStatusAndWhetherToTryAgain() throws Exception {
    Set<String> codes = new TreeSet<>();
    for (Checkout.Module module : Checkout.published()) {
      for (ClassNode type : module.classes()) {
        for (FieldNode field : type.fields) {
          if (field.desc.equals("Ldev/evalops/runtime/errors/ErrorCode;")
              && PublicApi.isVisible(field)) {
            ErrorCode code = (ErrorCode)
                Class.forName(type.name.replace('/', '.')).getField(field.name).get(null);
            codes.add(code.code() + " " + code.httpStatus() + " "
                + code.retry().name().toLowerCase(Locale.ROOT).replace('_', ' '));
          }
        }
      }
    }
    for (CertificateRule.Outcome outcome : CertificateRule.Outcome.values()) {
      if (!outcome.code().isEmpty()) {
        codes.add(outcome.code() + " 401 never");
      }
    }
    assertSame(
        "errors.md",
        rows("errors.md").stream()
            .filter(row -> row.get(0).matches("`[a-z_]+`") && row.get(1).matches("\\d{3}"))
            .map(row -> row.get(0).replace("`", "") + " " + row.get(1) + " " + row.get(2))
            .collect(Collectors.toCollection(TreeSet::new)),
        codes);
    assertThat(names("errors.md", "[a-z_]+"))
        .as("reasons of IdentityException in docs/operations/errors.md")
        .containsAll(Stream.of(IdentityException.Reason.values())
            .map(IdentityException.Reason::code)
            .toList());
  }

  @Test
  void everyEnvironmentVariableIsListed() throws IOException {
    Set<String> read = new TreeSet<>(inventory.environment);
    read.removeIf(NOT_READ.asMatchPredicate());
    assertSame("configuration.md", names("configuration.md", "[A-Z_]+"), read);
  }

  @Test
  void everySystemPropertyIsListed() throws IOException {
    Set<String> read = new TreeSet<>(inventory.properties);
    read.remove(
        Inventory
            .UNKNOWN); // the names that ServerProperties goes through, which are literals there
    assertSame("configuration.md", names("configuration.md", "[a-z]+(\\.\\w+)+"), read);
  }

  @Test
  void everyTableIsListed() throws IOException {
    assertSame(
        "storage.md",
        rows("storage.md").stream()
            .filter(row -> row.get(1).endsWith(".sql)") || row.get(1).endsWith("the same"))
            .map(row -> row.getFirst().replace("`", ""))
            .collect(Collectors.toCollection(TreeSet::new)),
        inventory.tables);
  }

  private static void assertSame(String page, Set<String> listed, Collection<String> found) {
    Set<String> missing = new TreeSet<>(found);
    missing.removeAll(listed);
    assertThat(missing).as("what docs/operations/%s does not list", page).isEmpty();
    Set<String> gone = new TreeSet<>(listed);
    gone.removeAll(found);
    assertThat(gone).as("what docs/operations/%s lists and no module has", page).isEmpty();
  }

  /** What is set as code in the first cells of a page's tables and matches. */
  private static NavigableSet<String> names(String page, String pattern) throws IOException {
    return rows(page).stream()
        .flatMap(row -> CODE.matcher(row.getFirst()).results().map(found -> found.group(1)))
        .filter(name -> name.matches(pattern))
        .collect(Collectors.toCollection(TreeSet::new));
  }

  private static List<List<String>> rows(String page) throws IOException {
    return Files.readAllLines(Checkout.ROOT.resolve("docs/operations").resolve(page)).stream()
        .filter(line -> line.startsWith("| "))
        .map(
            line -> Stream.of(line.substring(1).split("\\|")).map(String::strip).toList())
        .toList();
  }
}
