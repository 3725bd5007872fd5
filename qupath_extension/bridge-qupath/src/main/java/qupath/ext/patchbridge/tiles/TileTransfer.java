package qupath.ext.patchbridge.tiles;

import java.io.IOException;
import java.util.List;
import java.util.function.BiConsumer;

import com.google.gson.JsonObject;
import javafx.application.Platform;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.History;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.lib.objects.PathObject;

/** Shows or removes the patches of a run in an image that is open, in the background. */
public final class TileTransfer {

    private final Bridge bridge;
    private final OpenImage image;

    /** Makes the transfer for an image. */
    public TileTransfer(Bridge bridge, OpenImage image) {
        this.bridge = bridge;
        this.image = image;
    }

    /**
     * Shows or removes the patches of a run.
     *
     * @param run its id
     * @param done called in JavaFX's thread: with a text for people, or with the error
     */
    public void start(TileChange.Action action, String run,
            BiConsumer<String, BridgeException> done) {
        TemporaryFolder folder = new TemporaryFolder();
        List<PathObject> present = List.copyOf(image.data().getHierarchy().getTileObjects());
        BiConsumer<String, BridgeException> last = (text, error) -> {
            folder.close();
            done.accept(text, error);
        };
        Bridge.inBackground(() -> {
            try {
                Request request = TileChange.request(action, image, present, run, folder);
                bridge.send(request, event -> { }, (value, error) -> {
                    if (error != null) {
                        last.accept(null, error);
                    } else {
                        Bridge.inBackground(() -> finish(action, value, last));
                    }
                });
            } catch (IOException error) {
                Platform.runLater(() -> last.accept(null, failure(error)));
            }
        });
    }

    private void finish(TileChange.Action action, JsonObject value,
            BiConsumer<String, BridgeException> done) {
        try {
            TileChange change = TileChange.read(action, value);
            Platform.runLater(() -> {
                change.apply(image.data().getHierarchy());
                display(change);
                History.add(image.data(), Strings.get("history." + action.word()),
                        action.word() + "Patches", change.run());
                done.accept(change.message(), null);
            });
        } catch (IOException | RuntimeException error) {
            Platform.runLater(() -> done.accept(null, failure(error)));
        }
    }

    private void display(TileChange change) {
        if (!change.add().isEmpty()) {
            TileDisplay.fill(image.viewer().getOverlayOptions());
        } else if (image.data().getHierarchy().getTileObjects().isEmpty()) {
            TileDisplay.restore(image.viewer().getOverlayOptions());
        }
    }

    private static BridgeException failure(Exception error) {
        return new BridgeException(error.getClass().getSimpleName(), Strings.get("tiles.failed"),
                Strings.get("tiles.failed.hint"), error.toString());
    }
}
