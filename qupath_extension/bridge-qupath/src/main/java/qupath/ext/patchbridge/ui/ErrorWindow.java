package qupath.ext.patchbridge.ui;

import javafx.geometry.Insets;
import javafx.scene.control.Alert;
import javafx.scene.control.ButtonBar.ButtonData;
import javafx.scene.control.ButtonType;
import javafx.scene.control.Label;
import javafx.scene.input.Clipboard;
import javafx.scene.input.ClipboardContent;
import javafx.scene.layout.VBox;
import javafx.stage.Window;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Strings;

/** Says what went wrong in one sentence, what to do next, and gives a report to copy. */
public final class ErrorWindow {

    private static final Logger LOGGER = LoggerFactory.getLogger(ErrorWindow.class);
    private static final double WIDTH = 460;

    private ErrorWindow() {
    }

    /** Shows an error, and does not wait; an error that is a person's Cancel is not shown. */
    public static void show(Window owner, BridgeException error) {
        if (error.isCancelled()) {
            return;
        }
        LOGGER.warn("{}", error.report());
        ButtonType copy = new ButtonType(Strings.get("error.copy"), ButtonData.LEFT);
        Alert alert = new Alert(Alert.AlertType.ERROR, "", copy, ButtonType.OK);
        alert.initOwner(owner);
        alert.setTitle(Strings.get("menu.name"));
        alert.setHeaderText(null);
        VBox content = new VBox(10, text(error.getMessage(), true));
        if (error.hint() != null) {
            content.getChildren().add(text(error.hint(), false));
        }
        content.setPadding(new Insets(10));
        alert.getDialogPane().setContent(content);
        alert.getDialogPane().setId("patch-bridge-error");
        alert.getDialogPane().lookupButton(copy).addEventFilter(
                javafx.event.ActionEvent.ACTION, event -> {
                    event.consume();  // the window stays
                    ClipboardContent clip = new ClipboardContent();
                    clip.putString(error.report());
                    Clipboard.getSystemClipboard().setContent(clip);
                });
        alert.show();
    }

    private static Label text(String words, boolean strong) {
        Label label = Windows.wrapped(words);
        label.setPrefWidth(WIDTH);
        if (strong) {
            label.setStyle("-fx-font-weight: bold;");
        }
        return label;
    }
}
