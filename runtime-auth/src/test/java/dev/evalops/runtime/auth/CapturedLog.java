package dev.evalops.runtime.auth;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.PatternLayout;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.slf4j.LoggerFactory;

/** Everything that is logged while this is open, from DEBUG up and with stack traces. */
final class CapturedLog implements AutoCloseable {
  private final Logger ours = (Logger) LoggerFactory.getLogger("dev.evalops");
  private final Level level = ours.getLevel();
  private final PatternLayout layout = new PatternLayout();
  private final List<String> lines = new CopyOnWriteArrayList<>();
  private final AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
    @Override
    protected void append(ILoggingEvent event) {
      lines.add(layout.doLayout(event));
    }
  };

  CapturedLog() {
    LoggerContext context = ours.getLoggerContext();
    layout.setContext(context);
    layout.setPattern("%level %msg %kvp%n%ex{full}");
    layout.start();
    ours.setLevel(Level.DEBUG);
    ours.setAdditive(false);
    appender.setContext(context);
    appender.start();
    ours.addAppender(appender);
  }

  String text() {
    return String.join("", lines);
  }

  @Override
  public void close() {
    ours.detachAppender(appender);
    ours.setAdditive(true);
    ours.setLevel(level);
  }
}
