package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.Authenticator;
import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.NullUnmarked;

/** The context of all exchanges of containers. That it has no server says to the guard that another one hosts it. */
@NullUnmarked // As the methods of HttpContext.
final class HostContext extends HttpContext {
  static final HttpContext INSTANCE = new HostContext();

  private HostContext() {}

  @Override
  public HttpServer getServer() {
    return null;
  }

  @Override
  public String getPath() {
    return "/";
  }

  @Override
  public HttpHandler getHandler() {
    return null;
  }

  @Override
  public void setHandler(HttpHandler handler) {
    throw new UnsupportedOperationException("the container has the handlers");
  }

  @Override
  public Map<String, Object> getAttributes() {
    return Map.of();
  }

  @Override
  public List<Filter> getFilters() {
    return List.of();
  }

  @Override
  public Authenticator setAuthenticator(Authenticator authenticator) {
    throw new UnsupportedOperationException("the container authenticates");
  }

  @Override
  public Authenticator getAuthenticator() {
    return null;
  }
}
