package dev.evalops.conformance;

import dev.evalops.conformance.Checkout.Module;
import java.io.IOException;
import java.nio.file.Files;

/** What "make api" runs: writes the records that {@link ApiRecordTest} compares. */
final class WriteRecords {
  private WriteRecords() {}

  public static void main(String[] arguments) throws IOException {
    for (Module module : Checkout.published()) {
      Files.writeString(module.path("api.txt"), PublicApi.recordOf(module));
    }
    Files.writeString(ModuleGraph.FILE, ModuleGraph.svg());
  }
}
