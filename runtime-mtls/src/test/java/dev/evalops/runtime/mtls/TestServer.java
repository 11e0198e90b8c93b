package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import javax.net.ssl.ExtendedSSLSession;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLPeerUnverifiedException;

/**
 * The JDK's HTTPS server with its stock configurator. It answers with the client's subject and the SNI that it sent.
 */
final class TestServer implements AutoCloseable {
  static {
    System.setProperty(
        "sun.net.httpserver.nodelay", "true"); // or each answer waits 40 ms for Nagle's algorithm
  }

  private final HttpsServer server;
  private final ExecutorService threads = Executors.newCachedThreadPool();

  TestServer(SSLContext context, Filter... filters) throws IOException {
    this(new HttpsConfigurator(context), TestServer::describeClient, filters);
  }

  TestServer(HttpsConfigurator configurator, HttpHandler handler, Filter... filters)
      throws IOException {
    server = HttpsServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.setHttpsConfigurator(configurator);
    server.setExecutor(threads);
    HttpContext context = server.createContext("/", handler);
    context.getFilters().addAll(List.of(filters));
    server.start();
  }

  int port() {
    return server.getAddress().getPort();
  }

  URI uri() {
    return uri("localhost");
  }

  URI uri(String host) {
    return URI.create("https://" + host + ":" + port() + "/");
  }

  /** Closes the connection after each answer, so that each request is a new handshake. */
  static void describeClient(HttpExchange exchange) throws IOException {
    ExtendedSSLSession session = (ExtendedSSLSession) ((HttpsExchange) exchange).getSSLSession();
    String client;
    try {
      client = session.getPeerPrincipal().getName();
    } catch (SSLPeerUnverifiedException e) {
      client = "nobody";
    }
    String sni = session.getRequestedServerNames().stream()
        .map(name -> ((SNIHostName) name).getAsciiName())
        .findFirst()
        .orElse("none");
    byte[] body = (client + " sni=" + sni + " " + session.getProtocol()).getBytes(UTF_8);
    exchange.getResponseHeaders().set("Connection", "close");
    exchange.sendResponseHeaders(200, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }

  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }
}
