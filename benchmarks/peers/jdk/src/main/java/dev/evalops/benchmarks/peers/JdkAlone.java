package dev.evalops.benchmarks.peers;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.UUID;
import java.util.concurrent.Executors;
import tools.jackson.databind.json.JsonMapper;

/** The JDK's server and nothing else: no id, no log, no metrics, no token, no limit. {@code <port> virtual | pool} */
public final class JdkAlone {
  private static final String PREFIX = "/v1/notes/";

  private JdkAlone() {}

  public static void main(String[] args) throws IOException {
    System.setProperty("sun.net.httpserver.nodelay", "true");
    HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(args[0])), 1024);
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

  private static void answer(HttpExchange exchange, byte[] body) throws IOException {
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(200, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }
}
