package dev.evalops.benchmarks.peers;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.util.UUID;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLParameters;
import tools.jackson.databind.json.JsonMapper;

/** The JDK's server and nothing else: no id, no log, no metrics, no token, no limit. {@code <port> virtual | pool} */
public final class JdkAlone {
  private static final String PREFIX = "/v1/notes/";

  private JdkAlone() {}

  public static void main(String[] args) throws Exception {
    System.setProperty("sun.net.httpserver.nodelay", "true");
    // By default it closes idle connections beyond 200.
    System.setProperty("sun.net.httpserver.maxIdleConnections", "10000");
    InetSocketAddress address = new InetSocketAddress(Integer.parseInt(args[0]));
    KeyFiles keys = KeyFiles.find().orElse(null);
    HttpServer server = keys == null ? HttpServer.create(address, 1024) : https(address, keys);
    server.setExecutor(
        args[1].equals("pool")
            ? Executors.newFixedThreadPool(64)
            : Executors.newVirtualThreadPerTaskExecutor());
    JsonMapper mapper = JsonMapper.shared();
    server.createContext(PREFIX, exchange -> {
      UUID id = UUID.fromString(exchange.getRequestURI().getPath().substring(PREFIX.length()));
      answer(exchange, mapper.writeValueAsBytes(Notes.find(id).orElseThrow()));
    });
    server.createContext("/healthz", exchange -> answer(exchange, "{}".getBytes()));
    server.start();
  }

  private static HttpServer https(InetSocketAddress address, KeyFiles keys)
      throws IOException, GeneralSecurityException {
    HttpsServer server = HttpsServer.create(address, 1024);
    server.setHttpsConfigurator(new HttpsConfigurator(keys.context()) {
      @Override
      public void configure(HttpsParameters parameters) {
        SSLParameters tls = getSSLContext().getDefaultSSLParameters();
        tls.setProtocols(new String[] {KeyFiles.PROTOCOL});
        parameters.setSSLParameters(tls);
      }
    });
    return server;
  }

  private static void answer(HttpExchange exchange, byte[] body) throws IOException {
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(200, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }
}
