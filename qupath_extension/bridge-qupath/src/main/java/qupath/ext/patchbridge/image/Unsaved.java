package qupath.ext.patchbridge.image;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.stream.Collectors;

import javafx.application.Platform;
import javafx.scene.control.Alert;
import javafx.scene.control.ButtonBar.ButtonData;
import javafx.scene.control.ButtonType;
import javafx.stage.Window;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.TemporaryFolder;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.objects.PathObject;

/** Asks what to do with annotations that are on screen and not saved. */
public final class Unsaved {

    private final Window owner;
    private final TemporaryFolder folder;
    private final BiConsumer<Map<String, Path>, BridgeException> done;

    /**
     * Makes the question.
     *
     * @param owner window in front of which it stands
     * @param folder where annotations of the screen are written
     * @param done called in JavaFX's thread: with the files of annotations by the id of their image,
     *     empty if all is saved; or with an error, which is a cancelled one if the person cancels
     */
    public Unsaved(Window owner, TemporaryFolder folder,
            BiConsumer<Map<String, Path>, BridgeException> done) {
        this.owner = owner;
        this.folder = folder;
        this.done = done;
    }

    /** Compares the images with what is saved, and asks if something is not. */
    public void ask(List<OpenImage> images) {
        Map<OpenImage, List<PathObject>> annotations = new LinkedHashMap<>();
        images.forEach(image -> annotations.put(image, Annotations.onScreen(image)));
        Bridge.inBackground(() -> {
            try {
                Map<OpenImage, List<PathObject>> unsaved = new LinkedHashMap<>();
                for (OpenImage image : images) {
                    if (Annotations.differ(image, annotations.get(image))) {
                        unsaved.put(image, annotations.get(image));
                    }
                }
                Platform.runLater(() -> decide(unsaved));
            } catch (IOException error) {
                fail("unsaved.unreadable", error);
            }
        });
    }

    private void decide(Map<OpenImage, List<PathObject>> unsaved) {
        if (unsaved.isEmpty()) {
            done.accept(Map.of(), null);
            return;
        }
        ButtonType save = new ButtonType(Strings.get("unsaved.save"), ButtonData.OK_DONE);
        ButtonType screen = new ButtonType(Strings.get("unsaved.screen"), ButtonData.OTHER);
        String names = unsaved.keySet().stream().map(image -> image.entry().getImageName())
                .collect(Collectors.joining(", "));
        Alert alert = new Alert(Alert.AlertType.CONFIRMATION, "", save, screen, ButtonType.CANCEL);
        alert.initOwner(owner);
        alert.setTitle(Strings.get("menu.name"));
        alert.setHeaderText(null);
        alert.getDialogPane().setId("patch-bridge-unsaved");
        alert.getDialogPane().setContent(Windows.wrapped(Strings.get("unsaved.question", names)));
        ButtonType chosen = alert.showAndWait().orElse(ButtonType.CANCEL);
        if (chosen == save) {
            save(List.copyOf(unsaved.keySet()),
                    error -> done.accept(error == null ? Map.of() : null, error));
        } else if (chosen == screen) {
            write(unsaved);
        } else {
            done.accept(null, BridgeException.cancelled());
        }
    }

    /**
     * Saves images in the background.
     *
     * @param images the images; one without changes is left alone
     * @param done called in JavaFX's thread, with null or the error
     */
    public static void save(List<OpenImage> images, Consumer<BridgeException> done) {
        Bridge.inBackground(() -> {
            BridgeException problem = null;
            try {
                for (OpenImage image : images) {
                    if (image.data().isChanged()) {
                        image.entry().saveImageData(image.data());
                    }
                }
            } catch (IOException error) {
                problem = failure("unsaved.not-saved", error);
            }
            BridgeException outcome = problem;
            Platform.runLater(() -> done.accept(outcome));
        });
    }

    private void write(Map<OpenImage, List<PathObject>> unsaved) {
        Bridge.inBackground(() -> {
            try {
                Map<String, Path> files = new LinkedHashMap<>();
                for (OpenImage image : new ArrayList<>(unsaved.keySet())) {
                    String id = image.entry().getID();
                    Path file = folder.file("annotations-" + files.size() + ".geojson");
                    Annotations.write(unsaved.get(image), file);
                    files.put(id, file);
                }
                Platform.runLater(() -> done.accept(files, null));
            } catch (IOException error) {
                fail("unsaved.not-written", error);
            }
        });
    }

    private void fail(String key, IOException error) {
        Platform.runLater(() -> done.accept(null, failure(key, error)));
    }

    private static BridgeException failure(String key, IOException error) {
        return new BridgeException("IOException", Strings.get(key), Strings.get(key + ".hint"),
                error.toString());
    }
}
