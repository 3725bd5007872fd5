package qupath.ext.patchbridge;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.BridgeProcess;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.RunningRequest;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.Annotations;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.tiles.TileChange;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.LogLines;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.ext.patchbridge.ui.VersionGuard;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;
import qupath.lib.scripting.QP;

/**
 * What the menu does, for scripts: the lines in the workflow history call these methods.
 *
 * <p>They work on the script's image and project, and return when Python is done.
 */
public final class PatchBridge {

    private PatchBridge() {
    }

    /**
     * Writes the patches of the image.
     *
     * @param out folder of the patches, which must be new; one that is not absolute begins in the
     *     project's folder
     * @param options options of an export as JSON, such as {@code {"size": 256, "mpp": 0.5}}
     * @return id of the run
     */
    public static String exportPatches(String out, String options)
            throws BridgeException, IOException, InterruptedException {
        OpenImage image = image();
        try (TemporaryFolder folder = new TemporaryFolder()) {
            Map<String, Path> live = Map.of();
            List<PathObject> annotations = Annotations.onScreen(image);
            if (Annotations.differ(image, annotations)) {
                Path file = folder.file("annotations.geojson");
                Annotations.write(annotations, file);
                live = Map.of(image.entry().getID(), file);
            }
            JsonObject value = wait(Request.of("export").project(image.projectFile())
                    .with("entries", List.of(image.entry().getID())).with("out", image.inProject(out))
                    .with("options", JsonParser.parseString(options)).with("live", live)
                    .with("resume", false));
            return value.get("run_id").getAsString();
        }
    }

    /**
     * Shows the patches of a run as tiles.
     *
     * @param run id of the run; null for the newest of the image
     * @return what was done, in words
     */
    public static String showPatches(String run)
            throws BridgeException, IOException, InterruptedException {
        return change(TileChange.Action.SHOW, run);
    }

    /** Removes the tiles of a run; see {@link #showPatches}. */
    public static String removePatches(String run)
            throws BridgeException, IOException, InterruptedException {
        return change(TileChange.Action.REMOVE, run);
    }

    /**
     * Stores what people said about the image's patches, as it is saved.
     *
     * @param reviewer name of the person; null if nobody says
     */
    public static void collectCorrections(String reviewer)
            throws BridgeException, InterruptedException {
        corrections("collect", reviewer);
    }

    /** Takes the image's unsure changes as corrections. */
    public static void acceptCorrections() throws BridgeException, InterruptedException {
        corrections("accept", null);
    }

    /** Takes the image's unsure changes as an accident. */
    public static void dismissCorrections() throws BridgeException, InterruptedException {
        corrections("dismiss", null);
    }

    private static void corrections(String action, String reviewer)
            throws BridgeException, InterruptedException {
        OpenImage image = image();
        wait(Request.of("corrections").project(image.projectFile()).reviewer(reviewer)
                .with("action", action).with("entries", List.of(image.entry().getID())));
    }

    private static String change(TileChange.Action action, String run)
            throws BridgeException, IOException, InterruptedException {
        OpenImage image = image();
        try (TemporaryFolder folder = new TemporaryFolder()) {
            List<PathObject> present = List.copyOf(image.data().getHierarchy().getTileObjects());
            JsonObject value = wait(TileChange.request(action, image, present, run, folder));
            TileChange change = TileChange.read(action, value);
            change.apply(image.data().getHierarchy());
            return change.message();
        }
    }

    private static JsonObject wait(Request request) throws BridgeException, InterruptedException {
        Path python = Bridge.python();
        VersionGuard guard = new VersionGuard(python);
        RunningRequest running = BridgeProcess.start(python, request, guard::check, new LogLines());
        guard.watch(running);
        try {
            return running.result();
        } catch (BridgeException error) {
            throw guard.reason(error);
        } finally {
            running.cancel();  // if the script was stopped; else it does nothing
        }
    }

    private static OpenImage image() throws BridgeException {
        ImageData<BufferedImage> data = QP.getCurrentImageData();
        Project<BufferedImage> project = QP.getProject();
        ProjectImageEntry<BufferedImage> entry =
                data == null || project == null ? null : project.getEntry(data);
        if (entry == null) {
            throw new BridgeException("UsageError", Strings.get("images.not-in-project"), null, null);
        }
        return new OpenImage(null, data, project, entry);
    }
}
