package qupath.ext.patchbridge.tiles;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;

import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.image.Annotations;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/**
 * The tiles that go and come when a run is shown or removed. Python decides which.
 *
 * @param remove ids of the tiles that go
 * @param add tiles that come
 * @param run id of the run; null if there is none
 * @param message what was done, for people
 */
public record TileChange(Set<UUID> remove, List<PathObject> add, String run, String message) {

    /** What is done with a run. */
    public enum Action {
        /** Shows its patches. */
        SHOW,
        /** Takes its patches out. */
        REMOVE;

        /** Returns the word of requests and of texts. */
        String word() {
            return name().toLowerCase(java.util.Locale.ROOT);
        }
    }

    /**
     * Makes the request; the image's present tiles are written to a file for it.
     *
     * @param image the image
     * @param present its tiles
     * @param run id of the run; null for the newest
     * @throws IOException if a file cannot be written
     */
    public static Request request(Action action, OpenImage image, Collection<PathObject> present,
            String run, TemporaryFolder folder) throws IOException {
        Path live = folder.file("live.geojson");
        Annotations.write(present, live);
        return Request.of("tiles").project(image.projectFile()).with("action", action.word())
                .with("entry", image.entry().getID()).with("run", run).with("replace", false)
                .with("discard_corrections", false).with("live_tiles", live)
                .with("add", folder.file("add.geojson.gz"));
    }

    /**
     * Reads Python's answer and the file of tiles that come.
     *
     * @throws IOException if the file cannot be read
     */
    public static TileChange read(Action action, JsonObject value) throws IOException {
        Set<UUID> remove = new HashSet<>();
        value.getAsJsonArray("remove").forEach(id -> remove.add(UUID.fromString(id.getAsString())));
        JsonElement file = value.get("add");
        List<PathObject> add = file == null || file.isJsonNull() ? List.of()
                : PathIO.readObjects(Path.of(file.getAsString()));
        JsonElement run = value.get("run");
        return new TileChange(remove, add, run == null || run.isJsonNull() ? null
                : run.getAsString(), messages(value));
    }

    /** Returns what an answer of Python has to say to people, a line each. */
    static String messages(JsonObject value) {
        List<String> lines = new ArrayList<>();
        value.getAsJsonArray("messages").forEach(each -> lines.add(each.getAsString()));
        return String.join("\n", lines);
    }

    /** Removes and adds the tiles, and touches nothing else. */
    public void apply(PathObjectHierarchy hierarchy) {
        List<PathObject> gone = hierarchy.getTileObjects().stream()
                .filter(tile -> remove.contains(tile.getID())).toList();
        hierarchy.removeObjects(gone, true);
        hierarchy.addObjects(add);
    }
}
