package qupath.ext.patchbridge.export;

import java.io.File;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Optional;
import java.util.function.Supplier;

import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.ui.Windows;
import qupath.fx.dialogs.FileChoosers;

/** The folder of the patches: one that is proposed, chosen or typed. */
final class FolderChoice extends VBox {

    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("yyyy-MM-dd_HH-mm-ss");

    private static final double WIDTH = 300;

    private final TextField text = new TextField();
    private final Label note = Windows.wrapped("");
    private final Supplier<String> name;
    private OpenImage image;
    private String proposed;

    /**
     * Makes an empty choice.
     *
     * @param name gives the beginning of the name that is proposed
     */
    FolderChoice(Supplier<String> name) {
        super(4);
        this.name = name;
        text.setId("patch-bridge-out");
        note.setId("patch-bridge-out-note");
        note.setVisible(false);
        note.setPrefWidth(WIDTH);
        note.managedProperty().bind(note.visibleProperty());
        text.textProperty().addListener(change -> explain());
        Button browse = new Button(Strings.get("export.out.choose"));
        browse.setOnAction(event -> choose());
        HBox.setHgrow(text, Priority.ALWAYS);
        getChildren().setAll(new HBox(8, text, browse), note);
    }

    /** Proposes a new folder for an image. */
    void propose(OpenImage open) {
        image = open;
        proposed = proposedFolder().toString();
        text.setText(proposed);
    }

    /** Proposes another folder, unless a person chose one. */
    void proposeAgain() {
        if (text.getText().equals(proposed)) {
            propose(image);
        }
    }

    /**
     * Returns the folder; empty if the text is no path. A path that is not absolute begins in the
     * project's folder.
     */
    Optional<Path> folder() {
        String typed = text.getText().strip();
        try {
            return typed.isEmpty() ? Optional.empty() : Optional.of(image.inProject(typed));
        } catch (InvalidPathException error) {
            return Optional.empty();
        }
    }

    /** Says where the patches go, if the text does not say it by itself. */
    private void explain() {
        Optional<Path> folder = folder();
        String shown = folder.map(Path::toString).orElse("");
        if (folder.isEmpty()) {
            note.setText(Strings.get("export.out.invalid"));
        } else {
            note.setText(Strings.get("export.out.inside", shown));
        }
        boolean visible = !shown.equals(text.getText().strip());
        if (visible != note.isVisible()) {
            note.setVisible(visible);
            if (getScene() != null && getScene().getWindow() != null) {
                getScene().getWindow().sizeToScene();
            }
        }
    }

    private Path proposedFolder() {
        return image.inProject("qupath_bridge").resolve("patches")
                .resolve(name.get() + "_" + LocalDateTime.now().format(TIME));
    }

    private void choose() {
        File chosen = FileChoosers.promptForDirectory(getScene().getWindow(),
                Strings.get("export.out.title"), null);
        if (chosen != null) {
            text.setText(chosen.toPath().resolve(proposedFolder().getFileName()).toString());
        }
    }
}
