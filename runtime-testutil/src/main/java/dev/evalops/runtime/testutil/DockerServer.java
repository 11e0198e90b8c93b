package dev.evalops.runtime.testutil;

import com.github.dockerjava.api.model.PortBinding;
import java.util.Objects;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.utility.DockerImageName;

/** A server in a container of Testcontainers, which is an optional dependency: nothing else refers to its types. */
final class DockerServer implements Backend {
  private final GenericContainer<?> container;
  private final String readyLine;
  private int readyLines;

  private DockerServer(GenericContainer<?> container, String readyLine, int readyLines) {
    this.container = container;
    this.readyLine = readyLine;
    this.readyLines = readyLines;
  }

  static boolean isPossible() {
    return DockerClientFactory.instance().isDockerAvailable();
  }

  static DockerServer nats(int port) {
    return start(container("nats:2").withCommand("-js"), 4222, port, ".*Server is ready.*", 1);
  }

  static DockerServer redis(int port) {
    return start(container("redis:7"), 6379, port, ".*Ready to accept connections.*", 1);
  }

  static DockerServer postgres(int port, String user, String password) {
    GenericContainer<?> container = container("postgres:18")
        .withEnv("POSTGRES_USER", user)
        .withEnv("POSTGRES_PASSWORD", password)
        .withEnv("POSTGRES_DB", "postgres");
    // The first line is that of the server that sets the database up.
    return start(container, 5432, port, ".*ready to accept connections.*", 2);
  }

  // The caller owns it.
  @SuppressWarnings("resource")
  private static GenericContainer<?> container(String image) {
    return new GenericContainer<>(DockerImageName.parse(image));
  }

  private static DockerServer start(
      GenericContainer<?> container, int inside, int port, String readyLine, int readyLines) {
    container
        .withExposedPorts(inside)
        .withCreateContainerCmdModifier(create -> Objects.requireNonNull(create.getHostConfig())
            .withPortBindings(PortBinding.parse("127.0.0.1:" + port + ":" + inside)))
        .waitingFor(Wait.forLogMessage(readyLine, readyLines))
        .start();
    return new DockerServer(container, readyLine, readyLines);
  }

  @Override
  public void kill() {
    container.getDockerClient().killContainerCmd(container.getContainerId()).exec();
  }

  @Override
  public void restart() {
    container.getDockerClient().startContainerCmd(container.getContainerId()).exec();
    readyLines++;
    Wait.forLogMessage(readyLine, readyLines).waitUntilReady(container);
  }

  @Override
  public void pause() {
    container.getDockerClient().pauseContainerCmd(container.getContainerId()).exec();
  }

  @Override
  public void resume() {
    container.getDockerClient().unpauseContainerCmd(container.getContainerId()).exec();
  }

  @Override
  public void close() {
    container.close();
  }
}
