package qupath.ext.patchbridge.export;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import com.google.gson.JsonParser;
import org.junit.jupiter.api.Test;

class ExportSettingsTest {

    @Test
    void leavesOutWhatIsNotAskedFor() {
        assertEquals("{\"size\":256,\"rule\":\"majority\"}",
                new ExportSettings(256, null, "majority", null, List.of(), null).options().toString());
    }

    @Test
    void readsTheOptionsOfARun() {
        String rest = "\"labels\":true,\"map\":{\"A\":\"B\"}}";
        assertEquals(new ExportSettings(64, 0.5, "any", "Region*", List.of("Ü, ä"), "otsu"),
                ExportSettings.of(JsonParser.parseString("{\"size\":64,\"mpp\":0.5,\"rule\":\"any\","
                        + "\"within\":[\"Region*\",\"Other\"],\"exclude\":[\"Ü, ä\"],"
                        + "\"tissue\":\"otsu\"," + rest).getAsJsonObject()));
        assertEquals(new ExportSettings(128, null, "majority", null, List.of(), null),
                ExportSettings.of(JsonParser.parseString("{\"size\":128,\"mpp\":null,"
                        + "\"rule\":\"majority\",\"within\":[],\"exclude\":[],"
                        + "\"tissue\":\"none\"," + rest).getAsJsonObject()));
    }

    @Test
    void namesOptionsAsPythonDoes() {
        assertEquals("{\"size\":64,\"mpp\":0.5,\"rule\":\"any\",\"within\":[\"Region*\"],"
                        + "\"exclude\":[\"Ü, ä\"],\"tissue\":\"otsu\"}",
                new ExportSettings(64, 0.5, "any", "Region*", List.of("Ü, ä"), "otsu").options()
                        .toString());
    }
}
