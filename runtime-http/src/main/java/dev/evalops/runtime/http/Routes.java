package dev.evalops.runtime.http;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Which handler a request is for, decided on {@link RequestContext#path()} alone: no handler sees a path that another
 * one's filters were meant for. Immutable.
 */
final class Routes {
  private static final List<String> METHODS =
      List.of("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS");
  private static final Pattern TEMPLATE = Pattern.compile("\\{[A-Za-z][A-Za-z0-9_]*}");

  /** What was given to {@link HttpService.Builder#handle}. */
  record Registration(String pattern, HttpHandler handler, List<Filter> filters) {}

  /** A handler with the filters around it. */
  private record Route(HttpHandler chain, boolean exempt) {}

  /** One path, with templates or without, or a path and everything below it. */
  static final class Path {
    private final String label;
    private final boolean withBelow;
    private final List<String> segments;
    private final Map<String, Route> methods = new HashMap<>();
    private @Nullable Route other;

    private Path(String label, boolean withBelow) {
      this.label = label;
      this.withBelow = withBelow;
      this.segments = segments(label);
    }

    private static List<String> segments(String path) {
      return path.equals("/") ? List.of() : List.of(path.substring(1).split("/", -1));
    }

    private static boolean isTemplate(String segment) {
      return segment.startsWith("{");
    }

    String label() {
      return label;
    }

    private boolean isLiteral() {
      return segments.stream().noneMatch(Path::isTemplate);
    }

    /** The same for paths that match the same requests. */
    private String shape() {
      return String.join(
          "/", segments.stream().map(s -> isTemplate(s) ? "{}" : s).toList());
    }

    private Route route(String method) {
      Route route = methods.get(method);
      if (route == null) {
        route = other;
      }
      if (route == null) {
        throw new IllegalStateException("no route for " + label);
      }
      return route;
    }

    private boolean matches(String path) {
      int start = 1;
      for (String segment : segments) {
        if (start > path.length()) {
          return false;
        }
        int end = end(path, start);
        boolean matches = isTemplate(segment)
            ? end > start
            : end - start == segment.length() && path.startsWith(segment, start);
        if (!matches) {
          return false;
        }
        start = end + 1;
      }
      return withBelow || start == path.length() + 1;
    }

    /**
     * The segment of a path that this one matches which stands for a template.
     *
     * @throws IllegalArgumentException if there is no such template
     */
    String value(String path, String name) {
      int start = 1;
      for (String segment : segments) {
        int end = end(path, start);
        if (segment.length() == name.length() + 2
            && segment.startsWith(name, 1)
            && isTemplate(segment)) {
          return path.substring(start, end);
        }
        start = end + 1;
      }
      throw new IllegalArgumentException("route " + label + " has no {" + name + "}");
    }

    private static int end(String path, int start) {
      int end = path.indexOf('/', start);
      return end < 0 ? path.length() : end;
    }

    /** So that the first of several that match a request is the one that says most about it, from left to right. */
    private int compare(Path that) {
      for (int i = 0; ; i++) {
        int difference = Integer.compare(rank(i), that.rank(i));
        if (difference != 0) {
          return difference;
        }
        if (i == segments.size()) {
          return 0;
        }
        if (rank(i) == 0) {
          difference = segments.get(i).compareTo(that.segments.get(i));
          if (difference != 0) {
            return difference;
          }
        }
      }
    }

    private int rank(int index) {
      if (index < segments.size()) {
        return isTemplate(segments.get(index)) ? 1 : 0;
      }
      return withBelow ? 3 : 2;
    }
  }

  private final List<Filter> filters;
  private final Map<String, Path> literals = new HashMap<>();
  private final List<Path> others;
  private final Route unmatched;

  /**
   * Builds the routes.
   *
   * @param filters those for every request
   * @param problems what is wrong is added here; if something is, the routes are of no use
   */
  Routes(List<Registration> registrations, List<Filter> filters, List<String> problems) {
    this.filters = List.copyOf(filters);
    this.unmatched = new Route(
        new Guard(this.filters, exchange -> {
          throw ServiceException.of(ErrorCode.NOT_FOUND).op("http.route");
        }),
        false);
    Map<String, Path> exact = new LinkedHashMap<>();
    Map<String, Path> withBelow = new LinkedHashMap<>();
    for (Registration registration : registrations) {
      String problem = add(registration, exact, withBelow);
      if (problem != null) {
        problems.add(problem + ": " + registration.pattern());
      }
    }
    if (registrations.isEmpty()) {
      problems.add("handle must be called once at least");
    }
    exact.forEach((shape, path) -> path.other = otherMethods(path, withBelow.get(shape)));
    withBelow.values().forEach(path -> literals.put(path.label, path));
    exact.values().stream().filter(Path::isLiteral).forEach(path -> literals.put(path.label, path));
    List<Path> walked = new ArrayList<>(withBelow.values());
    exact.values().stream().filter(path -> !path.isLiteral()).forEach(walked::add);
    this.others = walked.stream().sorted(Path::compare).toList();
  }

  private @Nullable String add(
      Registration registration, Map<String, Path> exact, Map<String, Path> withBelow) {
    String pattern = registration.pattern();
    int space = pattern.indexOf(' ');
    String method = space < 0 ? null : pattern.substring(0, space);
    if (method != null && !METHODS.contains(method)) {
      return "method must be one of " + String.join(", ", METHODS);
    }
    String text = pattern.substring(space + 1);
    String problem = problem(text, method != null);
    if (problem != null) {
      return problem;
    }
    Path path = new Path(text, method == null);
    Path known = (method == null ? withBelow : exact).putIfAbsent(path.shape(), path);
    path = known == null ? path : known;
    if (!path.label.equals(text)) {
      return "path must name its templates as " + path.label + " does";
    }
    List<Filter> all = new ArrayList<>(filters);
    all.addAll(registration.filters());
    problem = HttpFilters.wrongOrder(all);
    if (problem != null) {
      return problem;
    }
    Route route = new Route(
        new Guard(List.copyOf(all), registration.handler()),
        registration.handler() instanceof HttpEndpoints.Exempt);
    if (method == null) {
      boolean first = path.other == null;
      path.other = route;
      return first ? null : "path must be registered once";
    }
    return path.methods.put(method, route) == null
        ? null
        : "method and path must be registered once";
  }

  private static @Nullable String problem(String path, boolean hasMethod) {
    if (!path.startsWith("/") || (path.length() > 1 && path.endsWith("/"))) {
      return "path must start with a slash and not end with one";
    }
    if (!isPlain(path)) {
      return "path must be plain, without escapes, empty segments, dot segments, ? and *";
    }
    Set<String> names = new HashSet<>();
    for (String segment : Path.segments(path)) {
      if (segment.indexOf('{') < 0 && segment.indexOf('}') < 0) {
        continue;
      }
      if (!hasMethod) {
        return "path must have a method before it, as in GET /notes/{id}, to have templates";
      }
      if (!TEMPLATE.matcher(segment).matches()) {
        return "path must have braces only around the name of a whole segment, as in /notes/{id}";
      }
      if (!names.add(segment)) {
        return "path must not have two templates of one name";
      }
    }
    return null;
  }

  private static boolean isPlain(String path) {
    try {
      return RequestRules.path(path).equals(path) && path.indexOf('?') < 0 && path.indexOf('*') < 0;
    } catch (ServiceException e) {
      return false;
    }
  }

  private Route otherMethods(Path path, @Nullable Path plain) {
    if (path.methods.containsKey("GET")) {
      path.methods.putIfAbsent("HEAD", path.methods.get("GET"));
    }
    if (plain != null && plain.other != null) {
      return plain.other;
    }
    String allow = String.join(", ", new TreeSet<>(path.methods.keySet()));
    return new Route(
        new Guard(filters, exchange -> {
          exchange.getResponseHeaders().set("Allow", allow);
          throw ServiceException.of(HttpErrors.METHOD_NOT_ALLOWED).op("http.method");
        }),
        false);
  }

  /** Handles a request, behind the guard and the filters. */
  void serve(HttpExchange raw, Limits limits) throws IOException {
    GuardedExchange guarded = new GuardedExchange(raw, limits, RequestContext.UNMATCHED);
    Guard.run(guarded, filters, () -> {
      Guard.check(guarded);
      Path path = find(guarded.context().path());
      Route route = unmatched;
      if (path != null) {
        guarded.context().matched(path);
        route = path.route(guarded.getRequestMethod());
      }
      if (!route.exempt()) {
        guarded.enter();
      }
      return route.chain();
    });
  }

  @Nullable
  Path find(String path) {
    Path literal = literals.get(path);
    if (literal != null) {
      return literal;
    }
    for (int i = 0; i < others.size(); i++) {
      if (others.get(i).matches(path)) {
        return others.get(i);
      }
    }
    return null;
  }
}
