package qupath.ext.patchbridge.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

class PatchBoxesTest {

    private static PatchBoxes boxes(String labels, String numbers) {
        return PatchBoxes.parse(json("{\"labels\": " + labels + ", \"boxes\": " + numbers + "}"));
    }

    private static JsonObject json(String text) {
        return JsonParser.parseString(text).getAsJsonObject();
    }

    private static List<String> visited(PatchBoxes boxes, double x, double y, double w, double h) {
        List<String> found = new ArrayList<>();
        boxes.visit(x, y, w, h, (left, top, wide, high, label) ->
                found.add(left + " " + top + " " + wide + " " + high + " " + label));
        return found;
    }

    @Test
    void visitsAsOneReadsWhateverTheOrderOfTheFile() {
        PatchBoxes boxes = boxes("[\"A\", \"B\"]", "[10,5,5,5,1, 0,5,5,5,0, 0,0,5,5,-1]");
        assertEquals(List.of("0 0 5 5 -1", "0 5 5 5 0", "10 5 5 5 1"), visited(boxes, 0, 0, 20, 20));
    }

    @Test
    void touchingARegionIsNotSharingAreaWithIt() {
        PatchBoxes boxes = boxes("[\"A\"]", "[10,10,5,5,0]");
        assertEquals(1, visited(boxes, 14, 14, 1, 1).size());
        assertEquals(0, visited(boxes, 15, 10, 5, 5).size());
        assertEquals(0, visited(boxes, 10, 15, 5, 5).size());
        assertEquals(0, visited(boxes, 5, 10, 5, 5).size());
        assertEquals(0, visited(boxes, 10, 5, 5, 5).size());
    }

    @Test
    void findsTheSameBoxesAsLookingAtEachOfThem() {
        Random random = new Random(12);
        StringBuilder numbers = new StringBuilder("[");
        List<int[]> all = new ArrayList<>();
        for (int index = 0; index < 300; index++) {
            int[] box = {random.nextInt(1000), random.nextInt(1000), 1 + random.nextInt(90),
                1 + random.nextInt(90), 0};
            all.add(box);
            numbers.append(index == 0 ? "" : ",").append(box[0] + "," + box[1] + "," + box[2] + ","
                    + box[3] + ",0");
        }
        PatchBoxes boxes = boxes("[\"A\"]", numbers.append("]").toString());
        for (int turn = 0; turn < 50; turn++) {
            int x = random.nextInt(900);
            int y = random.nextInt(900);
            Set<String> expected = new TreeSet<>();
            for (int[] box : all) {
                if (box[0] < x + 120 && x < box[0] + box[2] && box[1] < y + 80
                        && y < box[1] + box[3]) {
                    expected.add(box[0] + " " + box[1] + " " + box[2] + " " + box[3] + " 0");
                }
            }
            assertEquals(expected, new TreeSet<>(visited(boxes, x, y, 120, 80)));
        }
    }

    @Test
    void mergesNeighboursOfOneLabelInARowAndNoOthers() {
        PatchBoxes boxes = boxes("[\"A\", \"B\"]",
                "[0,0,4,4,0, 4,0,4,4,0, 8,0,4,4,1, 16,0,4,4,1, 0,4,4,4,0]");
        List<String> found = new ArrayList<>();
        boxes.visitMerged(0, 0, 99, 99, (left, top, wide, high, label) ->
                found.add(left + " " + top + " " + wide + " " + high + " " + label));
        assertEquals(List.of("0 0 8 4 0", "8 0 4 4 1", "16 0 4 4 1", "0 4 4 4 0"), found);
    }

    @Test
    void refusesWhatIsNoListOfBoxes() {
        assertThrows(JsonParseException.class, () -> PatchBoxes.parse(json("{\"boxes\": []}")));
        assertThrows(JsonParseException.class, () -> boxes("[\"A\"]", "[1,2,3,4]"));
        assertThrows(JsonParseException.class, () -> boxes("[\"A\"]", "[1,2,3,4,1]"));
        assertEquals(0, boxes("[]", "[]").size());
    }
}
