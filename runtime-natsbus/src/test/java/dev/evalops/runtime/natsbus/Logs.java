package dev.evalops.runtime.natsbus;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.slf4j.LoggerFactory;

/** What is logged by everything while it is open. */
public final class Logs implements AutoCloseable {
  private final Logger root = (Logger) LoggerFactory.getLogger(org.slf4j.Logger.ROOT_LOGGER_NAME);
  private final Logger ours = (Logger) LoggerFactory.getLogger("dev.evalops");
  private final List<String> lines = new CopyOnWriteArrayList<>();
  private final AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
    @Override
    protected void append(ILoggingEvent event) {
      lines.add(event.getLevel() + " " + event.getFormattedMessage() + " "
          + (event.getKeyValuePairs() == null ? "" : event.getKeyValuePairs()));
    }
  };

  public Logs() {
    appender.setContext(root.getLoggerContext());
    appender.start();
    root.addAppender(appender);
    ours.setLevel(Level.DEBUG);
  }

  public List<String> lines() {
    return List.copyOf(lines);
  }

  public long count(String part) {
    return lines.stream().filter(line -> line.contains(part)).count();
  }

  @Override
  public void close() {
    root.detachAppender(appender);
    ours.setLevel(null);
  }
}
