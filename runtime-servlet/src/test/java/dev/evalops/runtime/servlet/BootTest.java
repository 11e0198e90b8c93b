package dev.evalops.runtime.servlet;

import dev.evalops.runtime.http.HttpRequests;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.support.GenericApplicationContext;
import tools.jackson.databind.json.JsonMapper;

class BootTest extends ServletContract {
  private ConfigurableApplicationContext context;

  @Override
  int start(Gateway gateway) {
    SpringApplication application = new SpringApplication(BootApp.class);
    application.setBannerMode(Banner.Mode.OFF);
    application.setLogStartupInfo(false);
    application.setRegisterShutdownHook(false);
    application.addInitializers(beans -> {
      GenericApplicationContext generic = (GenericApplicationContext) beans;
      generic.registerBean(Gateway.class, () -> gateway);
      generic.registerBean(JsonMapper.class, HttpRequests::mapper);
    });
    List<String> arguments = new ArrayList<>(List.of(
        "--server.port=0",
        "--logging.config=classpath:logback-test.xml",
        "--server.servlet.context-path=" + contextPath()));
    arguments.addAll(settings());
    context = application.run(arguments.toArray(String[]::new));
    return context.getEnvironment().getRequiredProperty("local.server.port", Integer.class);
  }

  List<String> settings() {
    return List.of();
  }

  @Override
  void stop() {
    context.close();
  }

  @Override
  Map<String, Answer> differences() {
    return new TomcatTest().differences();
  }
}
