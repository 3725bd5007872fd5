package qupath.ext.patchbridge.export;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;

class ExportSettingsTest {

    @Test
    void leavesOutWhatIsNotAskedFor() {
        assertEquals("{\"size\":256,\"rule\":\"majority\"}",
                new ExportSettings(256, null, "majority", null, List.of(), null).options().toString());
    }

    @Test
    void namesOptionsAsPythonDoes() {
        assertEquals("{\"size\":64,\"mpp\":0.5,\"rule\":\"any\",\"within\":[\"Region*\"],"
                        + "\"exclude\":[\"Ü, ä\"],\"tissue\":\"otsu\"}",
                new ExportSettings(64, 0.5, "any", "Region*", List.of("Ü, ä"), "otsu").options()
                        .toString());
    }
}
