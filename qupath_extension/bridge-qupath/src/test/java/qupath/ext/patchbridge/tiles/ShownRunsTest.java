package qupath.ext.patchbridge.tiles;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

class ShownRunsTest {

    private static PathObject tile(String run) {
        return new PathObject() {
            @Override
            public PathClass getPathClass() {
                return null;
            }

            @Override
            public ROI getROI() {
                return null;
            }

            @Override
            public Map<String, String> getMetadata() {
                return run == null ? Map.of() : Map.of("qb.run", run);
            }
        };
    }

    private static List<Run> runs(String... ids) {
        StringBuilder all = new StringBuilder();
        for (String id : ids) {
            all.append(all.isEmpty() ? "" : ",").append("{\"run_id\": \"").append(id)
                    .append("\", \"started\": \"some day\", \"out\": \"/o\", \"out_exists\": true, "
                            + "\"settings\": \"256 px\", \"labels\": {\"A\": 2}, \"slides\": 3, "
                            + "\"entries\": [\"1\"], \"stale\": null}");
        }
        return Run.list(JsonParser.parseString("{\"runs\": [" + all + "], \"unfinished\": []}")
                .getAsJsonObject());
    }

    @Test
    void listsOnlyTheRunsThatTheImageShows() {
        List<Run> shown = ShownRuns.of(List.of(tile("02"), tile("02")))
                .among(runs("03", "02", "01"));
        assertEquals(List.of("02"), shown.stream().map(Run::id).toList());
        assertEquals("some day", shown.get(0).started());
        assertEquals("2 no class", shown.get(0).counts());
    }

    @Test
    void listsTilesOfARunThatTheProjectDoesNotKnow() {
        List<Run> shown = ShownRuns.of(List.of(tile("09"), tile("01"))).among(runs("01"));
        assertEquals(List.of("01", "09"), shown.stream().map(Run::id).toList());
    }

    @Test
    void tilesThatDoNotSayTheirRunMayBeOfAny() {
        List<Run> shown = ShownRuns.of(List.of(tile("02"), tile(null))).among(runs("03", "02"));
        assertEquals(List.of("03", "02"), shown.stream().map(Run::id).toList());
        assertEquals(List.of("2 A", "1 no class"), shown.stream().map(Run::counts).toList());
    }

    @Test
    void anImageWithoutTilesShowsNoRun() {
        assertEquals(List.of(), ShownRuns.of(List.of()).among(runs("03", "02")));
    }
}
