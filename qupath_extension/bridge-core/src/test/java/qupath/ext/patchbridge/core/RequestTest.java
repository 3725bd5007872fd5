package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gson.JsonParser;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class RequestTest {

    @Test
    void valuesBecomeJson() {
        Map<String, Object> options = new LinkedHashMap<>();
        options.put("size", 256);
        options.put("mpp", 0.5);
        options.put("stride", null);
        options.put("exclude", List.of("Artefact <1> & ä'"));
        Request request = Request.of("export").project(Path.of("/a b/project.qpproj")).reviewer("Ü")
                .with("entries", Arrays.asList("1", "2")).with("options", options)
                .with("live", Map.of("1", Path.of("/tmp/1.geojson"))).with("resume", false);

        assertEquals(JsonParser.parseString("""
                {"protocol": 1, "command": "export", "project": "/a b/project.qpproj", "reviewer": "Ü",
                 "entries": ["1", "2"],
                 "options": {"size": 256, "mpp": 0.5, "stride": null, "exclude": ["Artefact <1> & ä'"]},
                 "live": {"1": "/tmp/1.geojson"}, "resume": false, "result": "/r.json"}"""),
                JsonParser.parseString(request.toJson(Path.of("/r.json"))));
    }

    @Test
    void aRequestDoesNotChange() {
        Request request = Request.of("check");
        String before = request.toString();
        request.with("size", 1).project(Path.of("/p"));

        assertEquals(before, request.toString());
        assertEquals("check", request.command());
    }

    @Test
    void numbersThatJsonDoesNotKnowAreRefused() {
        Request request = Request.of("export");

        assertThrows(IllegalArgumentException.class, () -> request.with("mpp", Double.NaN));
    }
}
