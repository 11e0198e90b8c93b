package dev.evalops.runtime.servlet;

class TomcatContextPathTest extends TomcatTest {
  @Override
  String contextPath() {
    return "/api";
  }
}
