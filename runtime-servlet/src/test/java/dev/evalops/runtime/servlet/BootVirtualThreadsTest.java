package dev.evalops.runtime.servlet;

import java.util.List;

class BootVirtualThreadsTest extends BootTest {
  @Override
  String contextPath() {
    return "/api";
  }

  @Override
  List<String> settings() {
    return List.of("--spring.threads.virtual.enabled=true");
  }
}
