package qupath.ext.patchbridge.review;

import java.util.UUID;
import java.util.function.Consumer;

import javafx.application.Platform;
import javafx.event.EventHandler;
import javafx.scene.input.KeyEvent;

import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.image.OurTiles;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionListener;

/** Lets a person review in the image itself: with the keys, and by selecting a patch. */
final class ImageInput {

    private final OpenImage image;
    private final EventHandler<KeyEvent> onKey;
    private final PathObjectSelectionListener onSelection;

    /**
     * Makes the input of an image.
     *
     * @param onSelected called in JavaFX's thread with the id of a patch that is selected
     */
    ImageInput(OpenImage image, ReviewKeys keys, Consumer<UUID> onSelected) {
        this.image = image;
        this.onKey = event -> keys.overImage(event,
                () -> image.isShown() && OurTiles.isOurs(image.viewer().getSelectedObject()));
        this.onSelection = (selected, before, all) -> selected(selected, onSelected);
    }

    private static void selected(PathObject object, Consumer<UUID> onSelected) {
        if (!OurTiles.isOurs(object)) {
            return;
        }
        if (Platform.isFxApplicationThread()) {
            onSelected.accept(object.getID());
        } else {  // a script selects
            Platform.runLater(() -> onSelected.accept(object.getID()));
        }
    }

    void start() {
        image.viewer().getView().addEventFilter(KeyEvent.ANY, onKey);
        image.data().getHierarchy().getSelectionModel().addPathObjectSelectionListener(onSelection);
    }

    /** Gives the keys back to QuPath. */
    void stop() {
        image.viewer().getView().removeEventFilter(KeyEvent.ANY, onKey);
        image.data().getHierarchy().getSelectionModel()
                .removePathObjectSelectionListener(onSelection);
    }
}
