package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.http.HttpService;
import io.opentelemetry.api.common.AttributeKey;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.websocket.DeploymentException;
import jakarta.websocket.Endpoint;
import jakarta.websocket.EndpointConfig;
import jakarta.websocket.Session;
import jakarta.websocket.server.ServerContainer;
import jakarta.websocket.server.ServerEndpointConfig;
import java.io.IOException;
import java.io.Serial;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.tomcat.websocket.server.WsSci;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.ee11.websocket.jakarta.server.config.JakartaWebSocketServletContainerInitializer;
import org.eclipse.jetty.server.Server;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.web.socket.TextMessage;
import org.springframework.web.socket.WebSocketSession;
import org.springframework.web.socket.config.annotation.EnableWebSocket;
import org.springframework.web.socket.config.annotation.WebSocketConfigurer;
import org.springframework.web.socket.config.annotation.WebSocketHandlerRegistry;
import org.springframework.web.socket.handler.TextWebSocketHandler;

/** WebSockets of Jakarta and of Spring behind the filters. */
class WebSocketTest {
  @TempDir
  static Path folder;

  /** Answers each message with its own text and who calls. */
  public static final class Echo extends Endpoint {
    @Override
    public void onOpen(Session session, EndpointConfig config) {
      session.addMessageHandler(String.class, text -> {
        try {
          session.getBasicRemote().sendText(session.getUserPrincipal().getName() + ": " + text);
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      });
    }
  }

  @EnableAutoConfiguration
  @EnableWebSocket
  static class Spring implements WebSocketConfigurer {
    @Override
    public void registerWebSocketHandlers(WebSocketHandlerRegistry registry) {
      registry.addHandler(
          new TextWebSocketHandler() {
            @Override
            protected void handleTextMessage(WebSocketSession session, TextMessage message)
                throws IOException {
              session.sendMessage(
                  new TextMessage(session.getPrincipal().getName() + ": " + message.getPayload()));
            }
          },
          "/echo");
    }
  }

  private static void addEcho(ServerContainer container) throws DeploymentException {
    container.addEndpoint(
        ServerEndpointConfig.Builder.create(Echo.class, "/echo").build());
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    Auth auth = Auth.of((token, scopes) -> token.equals("good")
        ? Optional.of(VerifiedToken.of(new Actor("user", "alice", "org-1"), Set.of()))
        : Optional.empty());
    HttpHandler handler = watched
        .routes()
        .handle("/echo", Servlets.next(), auth.require())
        .handle("/", Servlets.next())
        .handler();
    return switch (container) {
      case "tomcat" ->
        watched.tomcat(
            folder,
            handler,
            context -> context.addServletContainerInitializer(new WsSci(), Set.of()),
            started -> {
              started.addServlet("default", new Nothing()).addMapping("/");
              started.addListener(new Listener());
            });
      case "jetty" ->
        watched.jetty(
            folder,
            handler,
            context -> JakartaWebSocketServletContainerInitializer.configure(
                context, (servlets, sockets) -> addEcho(sockets)),
            http -> {},
            started -> started.addServlet("default", new Nothing()).addMapping("/"));
      default -> watched.boot(Spring.class, context -> Servlets.addTo(context, handler));
    };
  }

  public static final class Listener implements jakarta.servlet.ServletContextListener {
    @Override
    public void contextInitialized(jakarta.servlet.ServletContextEvent event) {
      try {
        addEcho((ServerContainer)
            event.getServletContext().getAttribute(ServerContainer.class.getName()));
      } catch (DeploymentException e) {
        throw new IllegalStateException(e);
      }
    }
  }

  private static final class Nothing extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      response.getOutputStream().print("nothing");
    }
  }

  private record Client(BlockingQueue<String> received) implements WebSocket.Listener {
    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean last) {
      received.add(text.toString());
      socket.request(1);
      return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int status, String reason) {
      received.add("closed " + status);
      return null;
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void opensForThoseWhoMay_andEndsTheRequestOnce(String container) throws Exception {
    HttpClient http = HttpClient.newHttpClient(); // closing it would wait for the open sockets
    try (Watched watched = start(container)) {
      URI uri = URI.create("ws://localhost:" + watched.port() + "/echo");
      // More than may be in flight at a time.
      for (int n = 1; n <= 4; n++) {
        assertThatThrownBy(() -> http.newWebSocketBuilder()
                .buildAsync(uri, new Client(new LinkedBlockingQueue<>()))
                .join())
            .cause()
            .isInstanceOfSatisfying(WebSocketHandshakeException.class, refused -> {
              assertThat(refused.getResponse().statusCode()).isEqualTo(401);
              assertThat(refused.getResponse().headers().firstValue("Upgrade")).isEmpty();
              assertThat(refused.getResponse().headers().firstValue("X-Request-Id"))
                  .isPresent();
            });
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        WebSocket socket = http.newWebSocketBuilder()
            .header("Authorization", "Bearer good")
            .buildAsync(uri, new Client(received))
            .join();
        // The request has ended, the socket is open.
        assertThat(watched.logged(2 * n)).hasSize(2 * n);
        assertThat(watched.spans(2 * n)).hasSize(2 * n);
        socket.sendText("hello", true).join();
        assertThat(received.poll(30, TimeUnit.SECONDS)).isEqualTo("org-1:alice: hello");
        socket.sendText("again", true).join();
        assertThat(received.poll(30, TimeUnit.SECONDS)).isEqualTo("org-1:alice: again");
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").join();
        assertThat(received.poll(30, TimeUnit.SECONDS)).isEqualTo("closed 1000");
      }
      assertThat(watched.logged(8))
          .containsOnly("GET /echo 401", "GET /echo 101")
          .hasSize(8);
      assertThat(watched.counted(8)).isEqualTo(Map.of("GET /echo 401", 4.0, "GET /echo 101", 4.0));
      assertThat(watched.spans(8))
          .extracting(span -> span.getName() + " "
              + span.getAttributes().get(AttributeKey.longKey("http.response.status_code")) + " "
              + span.getStatus().getStatusCode())
          .containsOnly("GET /echo 401 UNSET", "GET /echo 101 UNSET");
      assertThat(watched.failures()).isEmpty();
    } finally {
      http.shutdownNow();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void answersAHandshakeThatIsNone(String container) throws Exception {
    String head = "GET /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n";
    String upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    try (Watched watched = start(container)) {
      for (String request : List.of(
          head + "\r\n",
          head + upgrade + "\r\n",
          head + upgrade
              + "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")) {
        try (RawClient client = new RawClient(watched.port())) {
          assertThat(client.send(request).read().status()).isNotEqualTo(101);
        }
      }
      assertThat(watched.logged(3)).hasSize(3).noneMatch(line -> line.endsWith(" 101"));
      assertThat(watched.failures()).isEmpty();
    }
  }

  /** Or no filter would see their handshakes. */
  @Test
  void refusesToStart_whereJettyWouldOpenWebSocketsBeforeOurFilter() {
    Server server = new Server(0);
    ServletContextHandler context = new ServletContextHandler();
    context.addServletContainerInitializer((classes, started) -> Servlets.addTo(
        started, HttpService.builder().handle("/", Servlets.next()).handler()));
    JakartaWebSocketServletContainerInitializer.configure(
        context, (servlets, sockets) -> addEcho(sockets));
    server.setHandler(context);
    assertThatThrownBy(server::start)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("set up WebSockets before you call it");
  }
}
