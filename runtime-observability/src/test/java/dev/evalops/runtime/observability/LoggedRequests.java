package dev.evalops.runtime.observability;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Collectors;

/** A logger whose lines a test can read. */
final class LoggedRequests {
  private final List<Map<String, Object>> lines = new CopyOnWriteArrayList<>();
  private final Logger logger;

  LoggedRequests() {
    LoggerContext context = new LoggerContext();
    logger = context.getLogger("requests");
    AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
      @Override
      protected void append(ILoggingEvent event) {
        lines.add(event.getKeyValuePairs().stream()
            .collect(Collectors.toMap(pair -> pair.key, pair -> pair.value)));
      }
    };
    appender.setContext(context);
    appender.start();
    logger.addAppender(appender);
  }

  Logger logger() {
    return logger;
  }

  List<Map<String, Object>> lines() {
    return lines;
  }
}
