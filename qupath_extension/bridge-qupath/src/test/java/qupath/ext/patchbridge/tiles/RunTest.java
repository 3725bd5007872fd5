package qupath.ext.patchbridge.tiles;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.google.gson.JsonParser;
import java.util.List;
import org.junit.jupiter.api.Test;

class RunTest {

    @Test
    void readsTheAnswerOfPython() {
        List<Run> runs = Run.list(JsonParser.parseString("{\"runs\": [{\"run_id\": \"01M\", "
                + "\"started\": \"some day\", \"out\": \"/o\", \"out_exists\": true, "
                + "\"settings\": \"size 256\", \"labels\": {\"A\": 2, \"B\": 1}, \"slides\": 3, "
                + "\"entries\": [\"1\"], \"stale\": null}], \"unfinished\": []}").getAsJsonObject());
        Run run = runs.get(0);
        assertEquals("01M", run.id());
        assertEquals("some day", run.started());
        assertEquals("2 A, 1 B", run.counts());
        assertEquals(3, run.images());
        assertNull(run.stale());
    }
}
