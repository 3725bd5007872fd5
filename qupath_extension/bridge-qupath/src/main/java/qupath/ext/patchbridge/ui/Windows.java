package qupath.ext.patchbridge.ui;

import javafx.scene.Parent;
import javafx.scene.Scene;
import javafx.scene.control.Label;
import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;
import javafx.scene.layout.Region;
import javafx.stage.Stage;
import javafx.stage.Window;

import qupath.ext.patchbridge.core.Strings;
import qupath.fx.dialogs.Dialogs;

/** Windows beside QuPath's, in QuPath's style. */
public final class Windows {

    private static final double MARGIN = 24;

    private Windows() {
    }

    /**
     * Makes a window that stays in front of its owner and does not lock it; Escape closes it.
     *
     * @param owner the window of QuPath
     * @param title its title
     * @param content what it shows
     */
    public static Stage stage(Window owner, String title, Parent content) {
        Stage stage = new Stage();
        stage.initOwner(owner);
        stage.setTitle(title);
        Scene scene = new Scene(content);
        scene.addEventHandler(KeyEvent.KEY_PRESSED, event -> {
            if (event.getCode() == KeyCode.ESCAPE) {
                event.consume();
                stage.close();
            }
        });
        stage.setScene(scene);
        return stage;
    }

    /** Shows a window over the left side of its owner, so that the tissue stays in sight. */
    public static void show(Stage stage) {
        stage.setX(stage.getOwner().getX() + MARGIN);
        stage.setY(stage.getOwner().getY() + 4 * MARGIN);
        stage.show();
    }

    /** Shows one sentence and waits for OK. */
    public static void message(String text) {
        Dialogs.showMessageDialog(Strings.get("menu.name"), text);
    }

    /** Returns a label that wraps its text. */
    public static Label wrapped(String text) {
        Label label = new Label(text);
        label.setWrapText(true);
        label.setMinHeight(Region.USE_PREF_SIZE);
        return label;
    }
}
