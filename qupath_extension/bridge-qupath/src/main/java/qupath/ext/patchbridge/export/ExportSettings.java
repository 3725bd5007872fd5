package qupath.ext.patchbridge.export;

import java.util.ArrayList;
import java.util.List;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;

/**
 * What the export dialog asks for.
 *
 * @param size side of a written patch, pixels
 * @param mpp µm per written pixel; null for the full resolution of the image
 * @param rule how the label is chosen
 * @param within class that patches must be inside; null for anywhere
 * @param exclude classes whose patches are left out
 * @param tissue name of the tissue test; null for none
 */
public record ExportSettings(int size, Double mpp, String rule, String within,
        List<String> exclude, String tissue) {

    /** The rules of labels, the default one first. */
    public static final List<String> RULES = List.of("majority", "centre", "threshold", "any");

    private static final String NO_TISSUE = "none";

    /** Copies the list. */
    public ExportSettings {
        exclude = List.copyOf(exclude);
    }

    /**
     * Reads the options of a run.
     *
     * @param options by the names of a configuration file, all of them
     */
    public static ExportSettings of(JsonObject options) {
        List<String> within = strings(options, "within");
        String tissue = options.get("tissue").getAsString();
        return new ExportSettings(options.get("size").getAsInt(),
                options.get("mpp").isJsonNull() ? null : options.get("mpp").getAsDouble(),
                options.get("rule").getAsString(), within.isEmpty() ? null : within.get(0),
                strings(options, "exclude"), NO_TISSUE.equals(tissue) ? null : tissue);
    }

    private static List<String> strings(JsonObject options, String name) {
        List<String> found = new ArrayList<>();
        options.getAsJsonArray(name).forEach(each -> found.add(each.getAsString()));
        return found;
    }

    /** Returns the same settings without a tissue test. */
    public ExportSettings withoutTissue() {
        return new ExportSettings(size, mpp, rule, within, exclude, null);
    }

    /** Returns the settings as the options of a request; what is not asked for is left out. */
    public JsonObject options() {
        JsonObject options = new JsonObject();
        options.addProperty("size", size);
        if (mpp != null) {
            options.addProperty("mpp", mpp);
        }
        options.addProperty("rule", rule);
        if (within != null) {
            options.add("within", array(List.of(within)));
        }
        if (!exclude.isEmpty()) {
            options.add("exclude", array(exclude));
        }
        if (tissue != null) {
            options.addProperty("tissue", tissue);
        }
        return options;
    }

    private static JsonArray array(List<String> names) {
        JsonArray array = new JsonArray();
        names.forEach(array::add);
        return array;
    }
}
