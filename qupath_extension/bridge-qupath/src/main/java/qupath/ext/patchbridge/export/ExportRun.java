package qupath.ext.patchbridge.export;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

import com.google.gson.JsonObject;
import javafx.stage.Window;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Event;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.RunningRequest;
import qupath.ext.patchbridge.image.History;
import qupath.ext.patchbridge.image.Images;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.image.Unsaved;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.ext.patchbridge.core.Strings;

/** One export: asks about unsaved annotations, then lets Python write the patches. */
final class ExportRun {

    /**
     * What to export.
     *
     * @param project the project's file
     * @param entries ids of the images; null for all
     * @param out folder of the patches
     * @param settings what decides the patches; null for those of the run that is resumed
     * @param resume whether to finish a run that was stopped
     */
    record Job(Path project, List<String> entries, Path out, ExportSettings settings,
            boolean resume) {

        private Request request(Map<String, Path> live) {
            return Request.of("export").project(project).with("entries", entries)
                    .with("out", out).with("options", settings == null ? null : settings.options())
                    .with("live", live).with("resume", resume);
        }
    }

    private final Bridge bridge;
    private final Job job;
    private final BiConsumer<JsonObject, BridgeException> done;
    private final TemporaryFolder folder = new TemporaryFolder();
    private RunningRequest running;
    private boolean cancelled;

    /**
     * Makes an export.
     *
     * @param done called once, in JavaFX's thread: with the value, or with the error
     */
    ExportRun(Bridge bridge, Job job, BiConsumer<JsonObject, BridgeException> done) {
        this.bridge = bridge;
        this.job = job;
        this.done = done;
    }

    /** Starts; events come in JavaFX's thread. */
    void start(Window owner, Consumer<Event> events) {
        List<OpenImage> open = Images.open(bridge.qupath()).stream().filter(image ->
                job.entries() == null || job.entries().contains(image.entry().getID())).toList();
        new Unsaved(owner, folder, (live, error) -> {
            if (error != null) {
                finish(open, null, error);
            } else if (cancelled) {
                finish(open, null, BridgeException.cancelled());
            } else {
                running = bridge.send(job.request(live), events,
                        (value, failure) -> finish(open, value, failure));
            }
        }).ask(open);
    }

    /** Ends Python; done is called with an error that says so. */
    void cancel() {
        cancelled = true;
        if (running != null) {
            running.cancel();
        }
    }

    private void finish(List<OpenImage> open, JsonObject value, BridgeException error) {
        folder.close();
        if (error == null && job.settings() != null) {
            open.forEach(image -> History.add(image.data(), Strings.get("history.export"),
                    "exportPatches", job.out().toString(), job.settings().options().toString()));
        }
        done.accept(value, error);
    }
}
