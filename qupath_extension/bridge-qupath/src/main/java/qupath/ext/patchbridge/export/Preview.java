package qupath.ext.patchbridge.export;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import javafx.animation.PauseTransition;
import javafx.application.Platform;
import javafx.util.Duration;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.BridgeSession;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.Annotations;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;

/**
 * Keeps the patches of an image on screen while settings and annotations change.
 *
 * <p>All methods belong to JavaFX's thread. The newest state wins: what comes late is dropped.
 */
final class Preview implements AutoCloseable {

    private static final Duration PAUSE = Duration.millis(80);

    /** Takes what Python says, in JavaFX's thread. */
    interface Listener {
        /** The annotations of the image changed. */
        void annotationsChanged();

        /** A new question is on its way. */
        void asked();

        /** The answer; final unless the tissue test follows. */
        void answered(PreviewAnswer answer, boolean isFinal);

        /** There is no answer. */
        void failed(BridgeException error);
    }

    private final OpenImage image;
    private final Listener listener;
    private final BridgeSession session;
    private final TemporaryFolder folder = new TemporaryFolder();
    private final PauseTransition pause = new PauseTransition(PAUSE);
    private final PathObjectHierarchyListener onChange = this::changed;
    private ExportSettings settings;
    private PatchOverlay overlay;
    private long asked;

    /**
     * Starts the preview of an image.
     *
     * @throws BridgeException if no Python is set up
     */
    Preview(Bridge bridge, OpenImage image, Listener listener) throws BridgeException {
        this.image = image;
        this.listener = listener;
        this.session = bridge.session();
        session.warmUp();
        pause.setOnFinished(event -> ask());
        image.data().getHierarchy().addListener(onChange);
    }

    /** Shows the patches of other settings; null shows none. */
    void update(ExportSettings wanted) {
        settings = wanted;
        asked++;
        if (wanted == null) {
            pause.stop();
            show(null);
        } else {
            pause.playFromStart();
        }
    }

    @Override
    public void close() {
        asked++;
        pause.stop();
        image.data().getHierarchy().removeListener(onChange);
        show(null);
        session.close();
        folder.close();
    }

    private void changed(PathObjectHierarchyEvent event) {
        if (!event.isChanging()) {
            Platform.runLater(() -> {
                listener.annotationsChanged();
                update(settings);
            });
        }
    }

    private void ask() {
        long number = ++asked;
        ExportSettings wanted = settings;
        List<PathObject> annotations = Annotations.onScreen(image);
        listener.asked();
        Bridge.inBackground(() -> {
            try {
                Path live = folder.file("live-" + number + ".geojson");
                Annotations.write(annotations, live);
                submit(number, wanted, live, false);
            } catch (IOException error) {
                fail(number, error);
            }
        });
    }

    private void submit(long number, ExportSettings wanted, Path live, boolean tissue)
            throws IOException {
        boolean isFinal = tissue || wanted.tissue() == null;
        Path boxes = folder.file("boxes-" + number + (tissue ? "-tissue" : "") + ".json");
        Request request = Request.of("preview").project(image.projectFile())
                .with("entry", image.entry().getID())
                .with("options", wanted.options())
                .with("live", Map.of(image.entry().getID(), live))
                .with("tissue", tissue)
                .with("boxes", boxes);
        session.submit(request, event -> { }).whenComplete((value, error) -> {
            if (error != null) {
                fail(number, error instanceof CompletionException ? error.getCause() : error);
                return;
            }
            finish(number, value, boxes, isFinal);
            if (!isFinal) {
                try {
                    submit(number, wanted, live, true);
                } catch (IOException failure) {
                    fail(number, failure);
                }
            }
        });
    }

    private void finish(long number, JsonObject value, Path boxes, boolean isFinal) {
        try {
            PreviewAnswer answer = PreviewAnswer.read(value, boxes);
            onlyNewest(number, () -> {
                show(answer);
                listener.answered(answer, isFinal);
            });
        } catch (IOException | JsonParseException error) {
            fail(number, error);
        } finally {
            deleteQuietly(boxes);
        }
    }

    private void fail(long number, Throwable error) {
        if (error instanceof CancellationException) {
            return;  // a newer question took its place
        }
        BridgeException shown = error instanceof BridgeException known ? known
                : new BridgeException(error.getClass().getSimpleName(),
                        Strings.get("preview.failed"), null, error.toString());
        if (!shown.isCancelled()) {
            onlyNewest(number, () -> {
                show(null);
                listener.failed(shown);
            });
        }
    }

    private void onlyNewest(long number, Runnable action) {
        Platform.runLater(() -> {
            if (number == asked) {
                action.run();
            }
        });
    }

    private void show(PreviewAnswer answer) {
        if (overlay != null) {
            image.viewer().getCustomOverlayLayers().remove(overlay);
            overlay = null;
        }
        if (answer != null) {
            overlay = new PatchOverlay(image.viewer().getOverlayOptions(), image.data(),
                    answer.boxes(), answer.colors());
            image.viewer().getCustomOverlayLayers().add(overlay);
        }
        image.viewer().repaint();
    }

    private static void deleteQuietly(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException error) {
            Bridge.log(error.toString());
        }
    }
}
