package qupath.ext.patchbridge.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.google.gson.JsonParser;
import java.awt.Color;
import java.util.Map;
import org.junit.jupiter.api.Test;

class PreviewAnswerTest {

    private static PreviewAnswer answer(String mpp) {
        PatchBoxes boxes = PatchBoxes.parse(JsonParser.parseString(
                "{\"labels\": [\"B\", \"A\", \"C\"], \"boxes\": [0,0,1,1,0]}").getAsJsonObject());
        return PreviewAnswer.of(JsonParser.parseString("{\"total\": 3, \"labels\": {"
                + "\"A\": {\"count\": 1, \"color\": [1, 2, 3]}, "
                + "\"B\": {\"count\": 2, \"color\": [4, 5, 6]}}, \"reasons\": {\"edge\": 7}, "
                + "\"mpp\": " + mpp + ", \"downsample\": 1, \"warnings\": [\"w\"]}")
                .getAsJsonObject(), boxes);
    }

    @Test
    void givesEachIndexTheColourOfItsLabel() {
        assertArrayEquals(new Color[] {new Color(4, 5, 6), new Color(1, 2, 3), Color.GRAY},
                answer("0.5").colors());
    }

    @Test
    void readsCountsReasonsAndPixelSize() {
        assertEquals(3, answer("0.5").total());
        assertEquals(2, answer("0.5").labels().get(1).count());
        assertEquals(Map.of("edge", 7), answer("0.5").dropped());
        assertEquals(0.5, answer("0.5").mpp());
        assertNull(answer("null").mpp());
    }
}
