package dev.evalops.benchmarks.peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** The load generator, pinned to cores. */
record Wrk(String cores, int connections, int partSeconds) {
  private static final Pattern REQUESTS = Pattern.compile("([0-9]+) requests in");
  private static final Pattern RATE = Pattern.compile("Requests/sec:\\s+([0-9.]+)");
  private static final Pattern NOT_2XX = Pattern.compile("Non-2xx or 3xx responses: ([0-9]+)");
  private static final Pattern SOCKET_ERRORS =
      Pattern.compile("Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+), timeout ([0-9]+)");
  private static final Pattern P99 = Pattern.compile("99%\\s+([0-9.]+)(us|ms|s)");

  /** {@code failed} are answers with another status than 2xx or 3xx, and what failed or took too long at a socket. */
  record Load(double requests, double rate, double p99, double failed) {}

  /** Loads until there are so many requests; the percentile is the median of those of the parts. */
  Load load(String origin, int requests) throws IOException, InterruptedException {
    List<Load> parts = new ArrayList<>();
    double done = 0;
    while (done < requests) {
      Load part = part(origin);
      parts.add(part);
      done += part.requests();
    }
    double rate = parts.stream().mapToDouble(Load::rate).average().orElseThrow();
    double p99 = Report.median(parts.stream().mapToDouble(Load::p99).sorted().toArray());
    return new Load(done, rate, p99, parts.stream().mapToDouble(Load::failed).sum());
  }

  Load part(String origin) throws IOException, InterruptedException {
    Process wrk = new ProcessBuilder(
            "taskset",
            "-c",
            cores,
            "wrk",
            "-t1",
            "-c" + connections,
            "-d" + partSeconds + "s",
            "--latency",
            "-H",
            "Authorization: Bearer secret-of-ann",
            origin + "/v1/notes/" + Notes.ID)
        .redirectErrorStream(true)
        .start();
    String output = new String(wrk.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    double requests = Double.parseDouble(find(REQUESTS, output).group(1));
    if (wrk.waitFor() != 0 || requests == 0) {
      throw new IllegalStateException("wrk failed:\n" + output);
    }
    Matcher p99 = find(P99, output);
    double unit = Map.of("us", 0.001, "ms", 1.0, "s", 1000.0).get(p99.group(2));
    return new Load(
        requests,
        Double.parseDouble(find(RATE, output).group(1)),
        Double.parseDouble(p99.group(1)) * unit,
        sum(NOT_2XX, output) + sum(SOCKET_ERRORS, output));
  }

  private static double sum(Pattern pattern, String output) {
    Matcher matcher = pattern.matcher(output);
    return matcher.find()
        ? IntStream.rangeClosed(1, matcher.groupCount()).mapToLong(i -> Long.parseLong(matcher.group(i))).sum()
        : 0;
  }

  private static Matcher find(Pattern pattern, String output) {
    Matcher matcher = pattern.matcher(output);
    if (!matcher.find()) {
      throw new IllegalStateException("wrk said:\n" + output);
    }
    return matcher;
  }
}
