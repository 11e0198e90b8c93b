package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.evalops.fixtures.RawClient;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The page of {@code make run}, in a browser. Skipped where there is none, but never in CI. */
class LivePageTest {
  private static LiveService live;
  private static Browser page;

  @BeforeAll
  static void open() throws Exception {
    Optional<Path> chromium = Browser.executable();
    assumeTrue(
        chromium.isPresent() || System.getenv("CI") != null,
        "no chromium or google-chrome on the path; make browser installs it");
    live = new LiveService(new Console(false), 0, 0);
    page = Browser.open(chromium.orElseThrow(), live.page());
    page.await("document.querySelector('#ready')?.textContent === 'ready'");
  }

  @AfterAll
  static void close() throws Exception {
    if (page != null) {
      page.close();
    }
    if (live != null) {
      live.close();
    }
  }

  @AfterEach
  void hasNoProblem_andServersForTheNext() throws Exception {
    assertThat(page.problems()).isEmpty();
    page.evaluate("[...document.querySelectorAll('[data-server] button')]"
        + ".filter(each => each.textContent === 'Start').forEach(each => each.click()); ''");
    page.await("document.querySelector('#ready').textContent === 'ready'");
  }

  @Test
  void showsANote_savedAndArrivedInTheFeed() throws Exception {
    create("milk <b>3.5 %</b>");
    awaitInFeed("milk <b>3.5 %</b>");
    page.await("notes.find(note => note.title.startsWith('milk')).look === 'good'");
  }

  @Test
  void showsTheOutboxFill_andTheFeedCatchUp_whenNatsIsAway() throws Exception {
    turn("nats", "stopped");
    page.await("document.querySelector('#ready').textContent.includes('nats')");
    create("tea");
    page.await("notes.find(note => note.title === 'tea').saved");
    page.await("document.querySelector('#outbox-pending').textContent !== '0'");
    assertThat(timesInFeed("tea")).isEqualTo("0");

    turn("nats", "up");
    awaitInFeed("tea");
    page.await("document.querySelector('#outbox-pending').textContent === '0'");
    page.await("document.querySelector('#ready').textContent === 'ready'");
  }

  @Test
  void savesANoteOnce_whenPostgresComesBack() throws Exception {
    turn("postgres", "stopped");
    create("coffee");
    page.await("notes.find(note => note.title === 'coffee').state.endsWith('same key again')");
    page.await("document.querySelector('#ready').textContent.includes('postgres')");

    turn("postgres", "up");
    awaitInFeed("coffee");
    page.await("notes.find(note => note.title === 'coffee').state.startsWith('saved at attempt')");
    assertThat(timesInFeed("coffee")).isEqualTo("1");
    page.await("document.querySelector('#ready').textContent === 'ready'");
  }

  @Test
  void showsTheRateLimit_alsoWithoutRedis() throws Exception {
    page.await("/Of the last 40: [0-9]+ allowed, [1-9][0-9]* limited/"
        + ".test(document.querySelector('#burst-result').textContent)"
        + " || (document.querySelector('#burst').click(), false)");

    String alone = "Number(/([0-9]+) decided/"
        + ".exec(document.querySelector('#limit-counts').textContent)[1])";
    String before = page.evaluate("String(" + alone + ")");
    turn("redis", "stopped");
    page.await(alone + " > " + before);
    page.await("document.querySelector('#ready').textContent.includes('redis')");
    create("juice");
    awaitInFeed("juice");

    turn("redis", "up");
    page.await("document.querySelector('#ready').textContent === 'ready'");
  }

  @Test
  void isForThisMachineAlone() throws Exception {
    try (RawClient other = new RawClient(live.page().getPort())) {
      assertThat(other
              .send("GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
              .read()
              .status())
          .isEqualTo(403);
    }
  }

  private static void create(String title) throws Exception {
    page.type("#title", title);
    page.click("#form button");
    page.await("notes.some(note => note.title === '" + title + "')");
  }

  private static void turn(String server, String until) throws Exception {
    page.click("[data-server=" + server + "] button");
    page.await("document.querySelector('[data-server=" + server + "] .state').textContent === '"
        + until + "'");
  }

  private static void awaitInFeed(String title) {
    page.await(inFeed(title) + " > 0");
  }

  private static String timesInFeed(String title) throws Exception {
    return page.evaluate("String(" + inFeed(title) + ")");
  }

  private static String inFeed(String title) {
    return "[...document.querySelectorAll('#feed li span:first-child')]"
        + ".filter(each => each.textContent === '" + title + "').length";
  }
}
