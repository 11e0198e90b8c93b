package dev.evalops.benchmarks;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** An exchange without a connection, so that a benchmark sees the filters and not the network. */
final class StubExchange extends HttpExchange {
  private static final InetSocketAddress LOCAL =
      InetSocketAddress.createUnresolved("localhost", 80);
  private static final URI TARGET = URI.create("/v1/notes/0194f3a0-0000-7000-8000-000000000000");

  private static final HttpContext CONTEXT = newContext();

  private final Map<String, Object> attributes = new HashMap<>();
  private final Headers request = new Headers();
  private final Headers response = new Headers();
  private int status = -1;

  private static HttpContext newContext() {
    try {
      // Never started.
      return HttpServer.create().createContext("/v1/notes");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  StubExchange() {
    request.set("Host", "localhost");
    request.set("User-Agent", "benchmark");
    request.set("Accept", "application/json");
  }

  @Override
  public Headers getRequestHeaders() {
    return request;
  }

  @Override
  public Headers getResponseHeaders() {
    return response;
  }

  @Override
  public URI getRequestURI() {
    return TARGET;
  }

  @Override
  public String getRequestMethod() {
    return "GET";
  }

  @Override
  public HttpContext getHttpContext() {
    return CONTEXT;
  }

  @Override
  public void close() {}

  @Override
  public InputStream getRequestBody() {
    return InputStream.nullInputStream();
  }

  @Override
  public OutputStream getResponseBody() {
    return OutputStream.nullOutputStream();
  }

  @Override
  public void sendResponseHeaders(int code, long length) {
    status = code;
  }

  @Override
  public InetSocketAddress getRemoteAddress() {
    return LOCAL;
  }

  @Override
  public int getResponseCode() {
    return status;
  }

  @Override
  public InetSocketAddress getLocalAddress() {
    return LOCAL;
  }

  @Override
  public String getProtocol() {
    return "HTTP/1.1";
  }

  @Override
  public @Nullable Object getAttribute(String name) {
    return attributes.get(name);
  }

  @Override
  public void setAttribute(String name, Object value) {
    attributes.put(name, value);
  }

  @Override
  public void setStreams(InputStream in, OutputStream out) {}

  @Override
  public @Nullable HttpPrincipal getPrincipal() {
    return null;
  }
}
