package dev.evalops.runtime.servlet;

import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

@DisabledIfSystemProperty(named = "servlet.version", matches = "6.0")
class JettyContextPathTest extends JettyTest {
  @Override
  String contextPath() {
    return "/api";
  }
}
