package dev.evalops.runtime.servlet;

import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

@DisabledIfSystemProperty(named = "servlet.api", matches = "6.0")
class JettyContextPathTest extends JettyTest {
  @Override
  String contextPath() {
    return "/api";
  }
}
