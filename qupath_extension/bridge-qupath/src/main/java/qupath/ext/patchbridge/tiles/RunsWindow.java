package qupath.ext.patchbridge.tiles;

import java.util.List;

import javafx.beans.value.ChangeListener;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.TableView;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.Region;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.image.OurTiles;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.ErrorWindow;
import qupath.ext.patchbridge.ui.Tables;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.images.ImageData;

/** Lists the runs of an image, to show the patches of one or to remove them. */
public final class RunsWindow {

    private static final double WIDTH = 780;
    private static final double HEIGHT = 240;

    private final Bridge bridge;
    private final OpenImage image;
    private final TileChange.Action action;
    private final Stage stage;
    private final TableView<Run> table = new TableView<>();
    private final Label outcome = Windows.wrapped("");
    private final Button button;
    private final ChangeListener<ImageData<?>> onImage = (property, before, now) -> imageChanged();

    private RunsWindow(Bridge bridge, OpenImage image, TileChange.Action action) {
        this.bridge = bridge;
        this.image = image;
        this.action = action;
        this.button = new Button(Strings.get("runs." + action.word()));
        button.setId("patch-bridge-run-action");
        button.setDefaultButton(true);
        button.setOnAction(event -> act());
        outcome.setId("patch-bridge-outcome");
        table.setId("patch-bridge-runs");
        fillTable();
        stage = Windows.stage(bridge.window(),
                Strings.get("runs." + action.word() + ".title"), content());
        stage.setOnHidden(event ->
                bridge.qupath().imageDataProperty().removeListener(onImage));
    }

    /** Makes the window that shows the patches of a run. */
    public static RunsWindow toShow(Bridge bridge, OpenImage image) {
        return new RunsWindow(bridge, image, TileChange.Action.SHOW);
    }

    /** Makes the window that removes the patches of a run. */
    public static RunsWindow toRemove(Bridge bridge, OpenImage image) {
        return new RunsWindow(bridge, image, TileChange.Action.REMOVE);
    }

    /** Shows the window and asks for the runs. */
    public void show() {
        if (Windows.front(stage.getTitle())) {
            return;
        }
        bridge.qupath().imageDataProperty().addListener(onImage);
        Windows.show(stage);
        ask(false);
    }

    private void imageChanged() {
        if (!image.isShown()) {
            stage.close();  // the tiles would go into an image that nobody sees
        }
    }

    private void fillTable() {
        Tables.column(table, Strings.get("runs.started"), 150, Run::started);
        Tables.column(table, Strings.get("runs.settings"), 220, Run::settings);
        Tables.column(table, Strings.get("runs.counts"), 210, Run::counts);
        Tables.column(table, Strings.get("runs.images"), 60, Run::images);
        Tables.column(table, Strings.get("runs.state"), 130, RunsWindow::state);
        table.setPlaceholder(new Label(Strings.get("runs.asked")));
        table.setPrefSize(WIDTH, HEIGHT);
        button.disableProperty().bind(table.getSelectionModel().selectedItemProperty().isNull());
    }

    private static String state(Run run) {
        if (!run.outExists()) {
            return Strings.get("runs.state.gone");
        }
        if (run.stale() == null) {
            return "";
        }
        return Strings.get(run.stale() ? "runs.state.stale" : "runs.state.current");
    }

    private VBox content() {
        Button close = new Button(Strings.get("window.close"));
        close.setOnAction(event -> stage.close());
        Region space = new Region();
        HBox.setHgrow(space, Priority.ALWAYS);
        VBox.setVgrow(table, Priority.ALWAYS);
        Label explanation = Windows.wrapped(Strings.get(
                "runs." + action.word() + ".explanation"));
        VBox content = new VBox(10, explanation, table, outcome,
                new HBox(8, space, button, close));
        content.setPadding(new Insets(14));
        return content;
    }

    /** Asks for the runs, and then, which takes longer, which of them are out of date. */
    private void ask(boolean stale) {
        Request request = Request.of("runs").project(image.projectFile())
                .with("entry", image.entry().getID()).with("stale", stale);
        bridge.send(request, event -> { }, (value, error) -> {
            if (error != null) {
                table.setPlaceholder(new Label(error.getMessage()));
                ErrorWindow.show(stage, error);
                return;
            }
            table.setPlaceholder(new Label(
                    Strings.get("runs." + action.word() + ".none")));
            int selected = Math.max(0, table.getSelectionModel().getSelectedIndex());
            table.getItems().setAll(listed(Run.list(value)));
            table.getSelectionModel().select(selected);
            String problems = TileChange.messages(value);
            if (!problems.isEmpty() && outcome.getText().isEmpty()) {
                outcome.setText(problems);
                stage.sizeToScene();
            }
            if (!stale && !table.getItems().isEmpty()) {
                ask(true);
            }
        });
    }

    /** Returns the runs to choose from: only what is in the image can be removed. */
    private List<Run> listed(List<Run> all) {
        return action == TileChange.Action.SHOW ? all
                : ShownRuns.of(OurTiles.of(image.data())).among(all);
    }

    private void act() {
        Run run = table.getSelectionModel().getSelectedItem();
        if (run == null) {
            return;
        }
        outcome.setText(Strings.get("runs.working"));
        new TileTransfer(bridge, image).start(action, run.id(), this::finished);
    }

    private void finished(String text, BridgeException error) {
        outcome.setText(error == null ? text : error.getMessage());
        if (error != null) {
            ErrorWindow.show(stage, error);
        } else if (stage.isShowing()) {
            ask(false);
        }
        stage.sizeToScene();
    }
}
