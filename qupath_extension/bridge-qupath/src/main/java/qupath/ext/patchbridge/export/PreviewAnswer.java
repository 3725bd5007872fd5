package qupath.ext.patchbridge.export;

import java.awt.Color;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

/**
 * What Python says about the patches that an export would write.
 *
 * @param total number of patches
 * @param labels their labels, in Python's order
 * @param dropped number of dropped patches by reason
 * @param mpp µm per written pixel; null if the image has no pixel size
 * @param warnings sentences for people
 * @param boxes where the patches are
 */
record PreviewAnswer(int total, List<Label> labels, Map<String, Integer> dropped, Double mpp,
        List<String> warnings, PatchBoxes boxes) {

    /** A label with the number of its patches and its colour. */
    record Label(String name, int count, Color color) {
    }

    /**
     * Reads an answer and its file of boxes.
     *
     * @throws IOException if the file cannot be read
     */
    static PreviewAnswer read(JsonObject value, Path file) throws IOException {
        JsonObject boxes;
        try (Reader reader = Files.newBufferedReader(file)) {
            boxes = JsonParser.parseReader(reader).getAsJsonObject();
        }
        return of(value, PatchBoxes.parse(boxes));
    }

    /** Reads an answer. */
    static PreviewAnswer of(JsonObject value, PatchBoxes boxes) {
        List<Label> labels = new ArrayList<>();
        for (Map.Entry<String, JsonElement> each : value.getAsJsonObject("labels").entrySet()) {
            JsonObject label = each.getValue().getAsJsonObject();
            labels.add(new Label(each.getKey(), label.get("count").getAsInt(),
                    color(label.getAsJsonArray("color"))));
        }
        Map<String, Integer> dropped = new LinkedHashMap<>();
        value.getAsJsonObject("reasons").entrySet().forEach(
                each -> dropped.put(each.getKey(), each.getValue().getAsInt()));
        List<String> warnings = new ArrayList<>();
        value.getAsJsonArray("warnings").forEach(each -> warnings.add(each.getAsString()));
        JsonElement mpp = value.get("mpp");
        return new PreviewAnswer(value.get("total").getAsInt(), List.copyOf(labels), dropped,
                mpp == null || mpp.isJsonNull() ? null : mpp.getAsDouble(), List.copyOf(warnings),
                boxes);
    }

    /** Returns the colours of the labels in the order of the boxes' indices. */
    Color[] colors() {
        return boxes.labels().stream().map(name -> labels.stream()
                .filter(label -> label.name().equals(name)).findFirst()
                .map(Label::color).orElse(Color.GRAY)).toArray(Color[]::new);
    }

    private static Color color(JsonArray rgb) {
        return new Color(rgb.get(0).getAsInt(), rgb.get(1).getAsInt(), rgb.get(2).getAsInt());
    }
}
