package qupath.ext.patchbridge.setup;

import java.io.File;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.ProgressIndicator;
import javafx.scene.control.RadioButton;
import javafx.scene.control.TextArea;
import javafx.scene.control.TextField;
import javafx.scene.control.ToggleGroup;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.Region;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.util.StringConverter;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Interpreter;
import qupath.ext.patchbridge.core.PythonLocator;
import qupath.ext.patchbridge.core.PythonSetup;
import qupath.ext.patchbridge.core.Running;
import qupath.ext.patchbridge.core.Setup;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.ErrorWindow;
import qupath.ext.patchbridge.ui.Windows;
import qupath.fx.dialogs.FileChoosers;

/** The window "Set up": chooses the Python that answers, or makes one. */
public final class SetUpWindow {

    private static final double WIDTH = 560;
    private static final int LINES = 8;

    private final Bridge bridge;
    private final PythonSetup setUp;
    private final Stage stage;
    private final RadioButton make = new RadioButton(Strings.get("setup-window.make"));
    private final RadioButton choose = new RadioButton(Strings.get("setup-window.choose"));
    private final ComboBox<Interpreter> interpreters = new ComboBox<>();
    private final TextField wheels = new TextField();
    private final TextField python = new TextField();
    private final TextArea log = new TextArea();
    private final ProgressIndicator busy = new ProgressIndicator();
    private final Label state = Windows.wrapped("");
    private final Button start = new Button(Strings.get("setup-window.start"));
    private final Button close = new Button(Strings.get("window.close"));
    private Running<Setup> running;

    /** Makes the window. */
    public SetUpWindow(Bridge bridge) {
        this.bridge = bridge;
        this.setUp = new PythonSetup(System.getenv(), Path.of(System.getProperty("user.home")));
        stage = Windows.stage(bridge.window(), Strings.get("setup-window.title"), content());
        stage.setOnHidden(event -> stop());
    }

    /** Shows the window, and looks for interpreters. */
    public void show() {
        if (Windows.front(stage.getTitle())) {
            return;
        }
        state.setText(found());
        Windows.show(stage);
        Bridge.inBackground(() -> {
            try {
                List<Interpreter> all = setUp.interpreters();
                boolean uv = setUp.uv().isPresent();
                Platform.runLater(() -> offer(all, uv));
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        });
    }

    /** Says which Python answers now. */
    private String found() {
        try {
            Map<String, String> env = System.getenv();
            return PythonLocator.find(env, Path.of(System.getProperty("user.home")), null)
                    .map(python -> Strings.get("setup-window.found", python.python()))
                    .orElse(Strings.get("setup-window.none"));
        } catch (BridgeException error) {
            return error.getMessage();
        }
    }

    private void offer(List<Interpreter> all, boolean uv) {
        interpreters.getItems().setAll(all);
        if (all.isEmpty()) {
            interpreters.setPromptText(Strings.get(uv ? "setup-window.uv-chooses" : "setup-window.no-interpreter"));
            if (!uv) {
                choose.setSelected(true);
            }
        } else {
            interpreters.getSelectionModel().selectFirst();
        }
    }

    private VBox content() {
        ToggleGroup group = new ToggleGroup();
        make.setToggleGroup(group);
        choose.setToggleGroup(group);
        make.setSelected(true);
        name();
        interpreters.setMaxWidth(Double.MAX_VALUE);
        interpreters.setPromptText(Strings.get("setup-window.looking"));
        interpreters.setConverter(new StringConverter<>() {
            @Override
            public String toString(Interpreter value) {
                return value == null ? ""
                        : Strings.get("setup-window.interpreter", value.version(), value.python());
            }

            @Override
            public Interpreter fromString(String text) {
                throw new UnsupportedOperationException();
            }
        });
        log.setEditable(false);
        log.setPrefRowCount(LINES);
        busy.setPrefSize(20, 20);
        busy.setVisible(false);
        start.setDefaultButton(true);
        start.setOnAction(event -> start());
        close.setOnAction(event -> stage.close());
        Region space = new Region();
        HBox.setHgrow(space, Priority.ALWAYS);
        VBox content = new VBox(10, Windows.wrapped(Strings.get("setup-window.explanation")), state,
                make, makeFields(), choose, chooseFields(), log,
                new HBox(8, busy, space, start, close));
        content.setPadding(new Insets(14));
        content.setPrefWidth(WIDTH);
        return content;
    }

    private void name() {
        make.setId("patch-bridge-make");
        choose.setId("patch-bridge-choose");
        python.setId("patch-bridge-python");
        wheels.setId("patch-bridge-wheels");
        log.setId("patch-bridge-log");
        state.setId("patch-bridge-state");
        start.setId("patch-bridge-start");
    }

    private GridPane makeFields() {
        Button browse = new Button(Strings.get("setup-window.browse"));
        browse.setOnAction(event -> {
            File folder = FileChoosers.promptForDirectory(stage, Strings.get("setup-window.wheels"), null);
            if (folder != null) {
                wheels.setText(folder.getPath());
            }
        });
        wheels.setPromptText(Strings.get("setup-window.wheels.prompt"));
        GridPane grid = grid();
        grid.addRow(0, new Label(Strings.get("setup-window.from")), interpreters);
        grid.addRow(1, new Label(Strings.get("setup-window.wheels")), new HBox(8, wheels, browse));
        HBox.setHgrow(wheels, Priority.ALWAYS);
        GridPane.setHgrow(interpreters, Priority.ALWAYS);
        grid.disableProperty().bind(make.selectedProperty().not());
        return grid;
    }

    private GridPane chooseFields() {
        Button browse = new Button(Strings.get("setup-window.browse"));
        browse.setOnAction(event -> {
            File file = FileChoosers.promptForFile(stage, Strings.get("setup-window.python"));
            if (file != null) {
                python.setText(file.getPath());
            }
        });
        python.setPromptText(Strings.get("setup-window.python.prompt"));
        HBox row = new HBox(8, python, browse);
        HBox.setHgrow(python, Priority.ALWAYS);
        GridPane grid = grid();
        grid.addRow(0, new Label(Strings.get("setup-window.python")), row);
        GridPane.setHgrow(row, Priority.ALWAYS);
        grid.disableProperty().bind(choose.selectedProperty().not());
        return grid;
    }

    private static GridPane grid() {
        GridPane grid = new GridPane();
        grid.setHgap(8);
        grid.setVgap(6);
        grid.setPadding(new Insets(0, 0, 0, 24));
        return grid;
    }

    private void start() {
        log.clear();
        if (choose.isSelected()) {
            if (python.getText().isBlank()) {
                state.setText(Strings.get("setup-window.python.missing"));
                return;
            }
            running = setUp.choose(Path.of(python.getText().strip()), this::line);
        } else {
            Interpreter from = interpreters.getValue();
            Path folder = wheels.getText().isBlank() ? null : Path.of(wheels.getText().strip());
            running = setUp.make(from == null ? null : from.python(), folder, this::line);
        }
        state.setText(Strings.get("setup-window.working"));
        busy(true);
        Bridge.await(running, this::finished);
    }

    private void line(String text) {
        Platform.runLater(() -> log.appendText(text + "\n"));
    }

    private void finished(Setup made, BridgeException error) {
        running = null;
        busy(false);
        if (error == null) {
            state.setText(Strings.get("setup-window.done", made.version(), made.python()));
            return;
        }
        state.setText(error.getMessage());
        if (stage.isShowing()) {
            ErrorWindow.show(stage, error);
        }
    }

    private void busy(boolean working) {
        busy.setVisible(working);
        start.setDisable(working);
        close.setText(Strings.get(working ? "progress.cancel" : "window.close"));
    }

    private void stop() {
        if (running != null) {
            running.cancel();
        }
    }
}
