package qupath.ext.patchbridge.export;

import java.nio.file.Path;
import java.util.Optional;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;

import qupath.ext.patchbridge.ui.Times;

/**
 * An export that was stopped, and can be finished.
 *
 * @param out folder of its patches
 * @param started when it was started, on this computer
 * @param images number of its images
 * @param imagesDone number of images that are finished
 */
record Unfinished(Path out, String started, int images, int imagesDone) {

    /** Returns the newest one in the value of the request {@code runs}. */
    static Optional<Unfinished> newest(JsonObject value) {
        JsonArray all = value.getAsJsonArray("unfinished");
        if (all.isEmpty()) {
            return Optional.empty();
        }
        JsonObject last = all.get(all.size() - 1).getAsJsonObject();
        return Optional.of(new Unfinished(Path.of(last.get("out").getAsString()),
                Times.local(last.get("started").getAsString()), last.get("slides").getAsInt(),
                last.get("slides_done").getAsInt()));
    }
}
