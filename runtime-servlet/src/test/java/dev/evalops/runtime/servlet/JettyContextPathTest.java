package dev.evalops.runtime.servlet;

class JettyContextPathTest extends JettyTest {
  @Override
  String contextPath() {
    return "/api";
  }
}
