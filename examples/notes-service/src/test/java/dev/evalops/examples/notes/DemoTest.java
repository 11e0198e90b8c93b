package dev.evalops.examples.notes;

import org.junit.jupiter.api.Test;

class DemoTest {
  @Test
  void everyStepOfTheDemoGoesWell() throws Exception {
    new Demo(new Console(false)).scenario();
  }
}
