package dev.evalops.runtime.startup;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

@Timeout(60)
class RotationTest {
  private final ListAppender<ILoggingEvent> logged = new ListAppender<>();
  private final AtomicReference<String> value = new AtomicReference<>("one");

  @TempDir
  Path folder;

  @BeforeEach
  void listen() {
    logged.start();
    ((Logger) LoggerFactory.getLogger(Rotation.class)).addAppender(logged);
  }

  @AfterEach
  void stopListening() {
    ((Logger) LoggerFactory.getLogger(Rotation.class)).detachAppender(logged);
    assertThat(Thread.interrupted()).as("flag left over for the next test").isFalse();
  }

  @Test
  void numbersEachValueThatIsNotTheOneBefore() {
    try (Rotation<String> rotation = Rotation.of("test", value::get)) {
      assertThat(rotation.latest()).isEmpty();
      assertThat(rotation.read()).isEqualTo(new Rotation.Version<>(1, "one"));
      assertThat(rotation.read().number()).isEqualTo(1);
      value.set("two");
      assertThat(rotation.read()).isEqualTo(new Rotation.Version<>(2, "two"));
      value.set("one");
      assertThat(rotation.read()).isEqualTo(new Rotation.Version<>(3, "one"));
      assertThat(rotation.latest()).contains(new Rotation.Version<>(3, "one"));
    }
  }

  @Test
  void renewsUntilNothingOlderIsLeft_andOnceForEachValue() throws InterruptedException {
    LinkedBlockingQueue<Long> renewed = new LinkedBlockingQueue<>();
    AtomicInteger calls = new AtomicInteger();
    try (Rotation<String> rotation = Rotation.of("test", value::get)) {
      rotation.watch(Duration.ofMillis(5), version -> {
        if (calls.incrementAndGet() == 1) {
          throw new IllegalStateException("hunter2");
        }
        renewed.add(version.number());
        return calls.get() > 2;
      });
      assertThat(renewed.poll(30, TimeUnit.SECONDS)).isEqualTo(1);
      assertThat(renewed.poll(30, TimeUnit.SECONDS)).isEqualTo(1);
      value.set("two");
      assertThat(renewed.poll(30, TimeUnit.SECONDS)).isEqualTo(2);
      assertThat(renewed).isEmpty();
    }
    assertThat(logged.list)
        .singleElement()
        .asString()
        .contains("connections not renewed")
        .doesNotContain("hunter2");
  }

  @Test
  void failsInBoundedTime_andIsLoggedOnce_whenTheSourceHangs() throws InterruptedException {
    CountDownLatch interrupted = new CountDownLatch(1);
    CountDownLatch works = new CountDownLatch(1);
    try (Rotation<String> rotation = Rotation.of("test", () -> {
      try {
        works.await();
      } catch (InterruptedException late) {
        interrupted.countDown();
      }
      return "one";
    })) {
      assertThatIllegalStateException()
          .isThrownBy(rotation::read)
          .withMessageStartingWith("test: supplier failed: TimeoutException: not done within");
      assertThat(interrupted.await(30, TimeUnit.SECONDS)).isTrue();
      works.countDown();
      assertThat(rotation.read().value()).isEqualTo("one");
    }
    assertThat(logged.list)
        .extracting(ILoggingEvent::getMessage)
        .containsExactly(
            "rotation: supplier failed; open connections stay", "rotation: supplier works again");
  }

  @Test
  void readsAgain_whenTheSourceIsBrokenForAWhile() throws InterruptedException {
    LinkedBlockingQueue<Long> renewed = new LinkedBlockingQueue<>();
    AtomicInteger calls = new AtomicInteger();
    try (Rotation<String> rotation = Rotation.of("test", () -> {
      int call = calls.incrementAndGet();
      if (call > 1 && call < 5) {
        throw new NoClassDefFoundError("hunter2");
      }
      return call == 1 ? "one" : "two";
    })) {
      assertThat(rotation.read().value()).isEqualTo("one");
      assertThatIllegalStateException()
          .isThrownBy(rotation::read)
          .withMessage("test: supplier failed: NoClassDefFoundError");
      rotation.watch(Duration.ofMillis(5), version -> renewed.add(version.number()));
      assertThat(renewed.poll(30, TimeUnit.SECONDS)).isEqualTo(2);
    }
    assertThat(logged.list)
        .extracting(ILoggingEvent::getMessage)
        .containsExactly(
            "rotation: supplier failed; open connections stay", "rotation: supplier works again");
  }

  @Test
  void throwsTheErrorOfASourceThatHasNeverWorked() {
    NoClassDefFoundError broken = new NoClassDefFoundError("com/example/Sdk");
    try (Rotation<String> rotation = Rotation.of("test", () -> {
      throw broken;
    })) {
      assertThatThrownBy(rotation::read).isSameAs(broken);
    }
  }

  @Test
  void sharesOneReading_amongThoseWhoWaitedForAnother() throws Exception {
    AtomicInteger calls = new AtomicInteger();
    CountDownLatch called = new CountDownLatch(1);
    CountDownLatch works = new CountDownLatch(1);
    LinkedBlockingQueue<Rotation.Version<String>> read = new LinkedBlockingQueue<>();
    try (Rotation<String> rotation = Rotation.of("test", () -> {
      called.countDown();
      try {
        works.await();
      } catch (InterruptedException late) {
        throw new IllegalStateException(late);
      }
      return "call " + calls.incrementAndGet();
    })) {
      Thread.ofPlatform().start(rotation::read);
      assertThat(called.await(30, TimeUnit.SECONDS)).isTrue();
      for (int i = 0; i < 3; i++) {
        Thread waiting = Thread.ofPlatform().start(() -> read.add(rotation.read()));
        while (waiting.getState() != Thread.State.WAITING) {
          Thread.onSpinWait();
        }
      }
      works.countDown();
      for (int i = 0; i < 3; i++) {
        assertThat(read.poll(30, TimeUnit.SECONDS)).isEqualTo(new Rotation.Version<>(2, "call 2"));
      }
    }
  }

  @Test
  void neverSaysWhatTheSourceSays() {
    List<Supplier<String>> sources = List.of(
        () -> {
          throw new IllegalArgumentException("cannot parse hunter2");
        },
        () -> {
          throw new UncheckedIOException(new IOException("answer was hunter2"));
        },
        () -> {
          throw new UncheckedIOException("hunter2", new IOException("hunter2"));
        },
        () -> null);
    for (Supplier<String> source : sources) {
      try (Rotation<String> rotation = Rotation.of("test", source)) {
        assertThatIllegalStateException()
            .isThrownBy(rotation::read)
            .withNoCause()
            .withMessageMatching("test: supplier failed: \\w+Exception")
            .withMessageNotContaining("hunter2");
        assertThatIllegalStateException().isThrownBy(rotation::read);
      }
    }
    assertThat(logged.list)
        .hasSize(4)
        .allSatisfy(event -> assertThat(
                event.getFormattedMessage() + event.getKeyValuePairs() + event.getThrowableProxy())
            .contains("supplier failed: ")
            .doesNotContain("hunter2"));
  }

  @Test
  void readsTheFileAtEachCall() throws Exception {
    Path file = folder.resolve("password");
    Supplier<Credentials> credentials = Credentials.fromFile("notes", file);
    assertThatThrownBy(credentials::get).isInstanceOf(UncheckedIOException.class);
    try (Rotation<Credentials> rotation = Rotation.of("test", credentials)) {
      assertThatIllegalStateException()
          .isThrownBy(rotation::read)
          .withMessage("test: supplier failed: NoSuchFileException: " + file);
      Files.writeString(file, "");
      assertThatIllegalStateException()
          .isThrownBy(rotation::read)
          .withMessage("test: supplier failed: FileSystemException: " + file + ": empty");
      Files.write(file, new byte[] {(byte) 0xff});
      assertThatIllegalStateException()
          .isThrownBy(rotation::read)
          .withMessage("test: supplier failed: FileSystemException: " + file + ": not UTF-8");
      Files.writeString(file, "hunter2\n");
      assertThat(rotation.read().value()).isEqualTo(new Credentials("notes", "hunter2"));
      Files.writeString(file, "correct horse\r\n");
      assertThat(rotation.read().value()).isEqualTo(new Credentials("notes", "correct horse"));
      assertThat(rotation.read().toString()).isEqualTo("Version[2]");
    }
  }

  @Test
  void printsNoPassword() {
    assertThat(new Credentials("notes", "hunter2")).hasToString("Credentials[notes]");
  }

  @Test
  void refusesATimeThatIsNotMoreThanZero() {
    try (Rotation<String> rotation = Rotation.of("test", value::get)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> rotation.watch(Duration.ZERO, version -> true))
          .withMessage("every must be more than zero: PT0S");
    }
  }
}
