package dev.evalops.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;

class BenchReportTest {
  private static final String RESULTS = """
      [
        {"benchmark": "a.RateBenchmark.ours", "threads": 1, "params": {"keys": "1"},
         "primaryMetric": {"score": 44.72, "scoreError": 2.5, "scoreUnit": "ns/op"},
         "secondaryMetrics": {"gc.alloc.rate.norm": {"score": 32.0001}}},
        {"benchmark": "a.RateBenchmark.peer", "threads": 1, "params": {"keys": "1"},
         "primaryMetric": {"score": 12345.6, "scoreError": "NaN", "scoreUnit": "ns/op"},
         "secondaryMetrics": {}},
        {"benchmark": "a.RateBenchmark.ours", "threads": 2, "params": {"keys": "1"},
         "primaryMetric": {"score": 0, "scoreError": 0, "scoreUnit": "ns/op"},
         "secondaryMetrics": {}}
      ]
      """;

  @Test
  void tableHasThePeersBesideEachOther() {
    assertThat(BenchReport.of(RESULTS).table()).isEqualTo("""
            **Rate, keys 1 (ns/op)**

            | | score | bytes |
            | --- | --- | --- |
            | ours | 44.7 ± 2.50 | 32 |
            | peer | 12 346 |  |

            **Rate, keys 1, 2 threads (ns/op)**

            | | score | bytes |
            | --- | --- | --- |
            | ours | 0 ± 0 |  |

            """);
  }

  @Test
  void chartHasABarForEach() throws Exception {
    String chart = BenchReport.of(RESULTS).chart();
    Document svg = DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(new InputSource(new StringReader(chart)));
    assertThat(svg.getElementsByTagName("rect").getLength())
        .as("background and bars")
        .isEqualTo(4);
    assertThat(chart).contains(">ours<", ">peer<", "width=\"420\"", ">Rate, keys 1 (ns/op)<");
  }

  @Test
  void writesBoth(@TempDir Path folder) throws Exception {
    Path json = Files.writeString(folder.resolve("jmh.json"), RESULTS);
    BenchReport.main(new String[] {json.toString(), folder.resolve("out").toString()});
    assertThat(folder.resolve("out/results.md")).isNotEmptyFile();
    assertThat(folder.resolve("out/results.svg")).isNotEmptyFile();
  }
}
