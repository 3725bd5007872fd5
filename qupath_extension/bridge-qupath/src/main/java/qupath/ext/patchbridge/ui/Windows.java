package qupath.ext.patchbridge.ui;

import java.util.Optional;
import java.util.stream.Stream;

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
    private static final double TEXT_WIDTH = 270;
    private static final String OURS = "patch-bridge";

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
        stage.getProperties().put(OURS, true);
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

    /**
     * Shows a window over the left side of its owner, so that the tissue stays in sight; below the
     * titles of ours that are open already.
     */
    public static void show(Stage stage) {
        long open = ours().count();
        stage.setX(stage.getOwner().getX() + (1 + 2 * open) * MARGIN);
        stage.setY(stage.getOwner().getY() + (4 + 2 * open) * MARGIN);
        stage.show();
    }

    /** Brings our window with a title to the front; returns false if there is none. */
    public static boolean front(String title) {
        Optional<Stage> open = ours().filter(stage -> title.equals(stage.getTitle())).findFirst();
        open.ifPresent(stage -> {
            stage.toFront();
            stage.requestFocus();
        });
        return open.isPresent();
    }

    private static Stream<Stage> ours() {
        return Window.getWindows().stream().filter(Stage.class::isInstance).map(Stage.class::cast)
                .filter(stage -> stage.isShowing() && stage.getProperties().containsKey(OURS));
    }

    /** Shows one sentence and waits for OK. */
    public static void message(String text) {
        Dialogs.showMessageDialog(Strings.get("menu.name"), text);
    }

    /** Returns a label that wraps its text, and does not make its window wider for a long one. */
    public static Label wrapped(String text) {
        Label label = new Label(text);
        label.setWrapText(true);
        label.setPrefWidth(TEXT_WIDTH);
        label.setMaxWidth(Double.MAX_VALUE);
        label.setMinHeight(Region.USE_PREF_SIZE);
        return label;
    }
}
