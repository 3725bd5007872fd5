package qupath.ext.patchbridge.ui;

import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.ProgressBar;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;

import qupath.ext.patchbridge.core.Event;
import qupath.ext.patchbridge.core.Strings;

/** Shows how far a request is, with its rate, and cancels it. */
public final class ProgressPane extends VBox {

    private final ProgressBar bar = new ProgressBar(ProgressBar.INDETERMINATE_PROGRESS);
    private final Label text = new Label();
    private final Button cancel = new Button(Strings.get("progress.cancel"));

    /** Makes a pane that is hidden. */
    public ProgressPane() {
        super(4);
        bar.setMaxWidth(Double.MAX_VALUE);
        HBox.setHgrow(bar, Priority.ALWAYS);
        text.setId("patch-bridge-progress");
        cancel.setId("patch-bridge-cancel");
        getChildren().setAll(new HBox(8, bar, cancel), text);
        hide();
    }

    /** Shows the beginning of work that Cancel ends. */
    public void start(Runnable onCancel) {
        bar.setProgress(ProgressBar.INDETERMINATE_PROGRESS);
        text.setText(Strings.get("progress.starting"));
        cancel.setDisable(false);
        cancel.setOnAction(event -> {
            cancel.setDisable(true);
            text.setText(Strings.get("progress.stopping"));
            onCancel.run();
        });
        setVisible(true);
        setManaged(true);
    }

    /** Shows an event. */
    public void show(Event event) {
        if (event instanceof Event.Progress progress && !cancel.isDisabled()) {
            bar.setProgress(progress.total() <= 0 ? ProgressBar.INDETERMINATE_PROGRESS
                    : (double) progress.done() / progress.total());
            text.setText(Strings.get("progress.patches", progress.done(), progress.total(),
                    progress.rate(), progress.slidesDone(), progress.slides()));
        }
    }

    /** Hides the pane. */
    public void hide() {
        setVisible(false);
        setManaged(false);
    }
}
