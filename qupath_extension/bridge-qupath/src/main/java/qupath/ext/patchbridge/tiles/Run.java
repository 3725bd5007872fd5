package qupath.ext.patchbridge.tiles;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.Times;

/**
 * A run whose patches an image can show.
 *
 * @param id of the run
 * @param started date and time on this computer
 * @param settings in one line
 * @param counts number of patches per label, in one line
 * @param images number of images
 * @param out folder of the patches
 * @param outExists whether the folder is there
 * @param stale whether something changed since; null if nobody knows
 */
record Run(String id, String started, String settings, String counts, int images, String out,
        boolean outExists, Boolean stale) {

    /** Reads the value of the request {@code runs}. */
    static List<Run> list(JsonObject value) {
        List<Run> runs = new ArrayList<>();
        for (JsonElement each : value.getAsJsonArray("runs")) {
            runs.add(of(each.getAsJsonObject()));
        }
        return List.copyOf(runs);
    }

    /** Returns a run of which only the tiles are left. */
    static Run unknown(String id) {
        return new Run(id, id, Strings.get("runs.unknown"), "", 0, "", false, null);
    }

    /** Returns the same run with other numbers of patches per label. */
    Run withCounts(Map<String, Long> labels) {
        String line = labels.entrySet().stream().map(each -> each.getValue() + " " + each.getKey())
                .collect(Collectors.joining(", "));
        return new Run(id, started, settings, line, images, out, outExists, stale);
    }

    private static Run of(JsonObject run) {
        JsonElement stale = run.get("stale");
        return new Run(text(run, "run_id"), Times.local(text(run, "started")), text(run, "settings"),
                counts(run.get("labels")), run.get("slides").getAsInt(), text(run, "out"),
                run.get("out_exists").getAsBoolean(),
                stale == null || stale.isJsonNull() ? null : stale.getAsBoolean());
    }

    private static String counts(JsonElement counts) {
        return counts == null || !counts.isJsonObject() ? ""
                : counts.getAsJsonObject().entrySet().stream().map(Run::count)
                        .collect(Collectors.joining(", "));
    }

    private static String count(Map.Entry<String, JsonElement> each) {
        return each.getValue().getAsLong() + " " + each.getKey();
    }

    private static String text(JsonObject run, String name) {
        JsonElement value = run.get(name);
        return value == null || value.isJsonNull() ? "" : value.getAsString();
    }
}
