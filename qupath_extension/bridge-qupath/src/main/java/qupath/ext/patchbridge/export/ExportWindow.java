package qupath.ext.patchbridge.export;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import javafx.beans.value.ChangeListener;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.Separator;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.Region;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.Annotations;
import qupath.ext.patchbridge.image.Images;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.tiles.TileChange;
import qupath.ext.patchbridge.tiles.TileTransfer;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.ErrorWindow;
import qupath.ext.patchbridge.ui.ProgressPane;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.images.ImageData;

/** The window "Export patches": settings, preview, export. QuPath stays usable beside it. */
public final class ExportWindow implements Preview.Listener {

    private final Bridge bridge;
    private final Stage stage;
    private final SettingsPane settings = new SettingsPane(this::settingsChanged);
    private final ImageChoice images = new ImageChoice(this::imagesChosen);
    private final FolderChoice out = new FolderChoice(images::folderName);
    private final PreviewPane answers = new PreviewPane();
    private final ProgressPane progress = new ProgressPane();
    private final Label outcome = Windows.wrapped("");
    private final Button export = new Button(Strings.get("export.start"));
    private final Button resume = new Button(Strings.get("export.resume"));
    private final Button show = new Button(Strings.get("export.show"));
    private final ChangeListener<ImageData<?>> onImage = (property, before, now) -> imageChanged();
    private OpenImage image;
    private Preview preview;
    private ExportRun running;
    private String runId;

    /** Makes the window for an image. */
    public ExportWindow(Bridge bridge, OpenImage image) {
        this.bridge = bridge;
        this.image = image;
        outcome.setId("patch-bridge-outcome");
        export.setId("patch-bridge-export");
        export.setDefaultButton(true);
        export.setOnAction(event -> start());
        resume.setId("patch-bridge-resume");
        resume.setVisible(false);
        resume.managedProperty().bind(resume.visibleProperty());
        show.managedProperty().bind(show.visibleProperty());
        show.setId("patch-bridge-show");
        show.setOnAction(event -> showTiles());
        stage = Windows.stage(bridge.window(), Strings.get("export.title"), content());
        stage.setOnHidden(event -> close());
    }

    /** Shows the window and the first preview. */
    public void show() {
        if (Windows.front(stage.getTitle())) {
            return;
        }
        bridge.qupath().imageDataProperty().addListener(onImage);
        showImage();
        Windows.show(stage);
        askForTissueTests();
        askForLastSettings();
        askForUnfinished();
    }

    private VBox content() {
        settings.row("export.images", images);
        settings.row("export.out", out);
        HBox above = new HBox(18, settings, new Separator(javafx.geometry.Orientation.VERTICAL),
                answers);
        HBox.setHgrow(settings, Priority.ALWAYS);
        Button close = new Button(Strings.get("window.close"));
        close.setOnAction(event -> stage.close());
        Region space = new Region();
        HBox.setHgrow(space, Priority.ALWAYS);
        show.setVisible(false);
        VBox content = new VBox(12, above, progress, outcome,
                new HBox(8, show, resume, space, export, close));
        content.setPadding(new Insets(14));
        return content;
    }

    private void showImage() {
        settings.showImage(bridge.qupath(), image);
        images.showImage(image);
        out.propose(image);
        try {
            preview = new Preview(bridge, image, this);
            settingsChanged();
        } catch (BridgeException error) {
            answers.fail(error);
            export.setDisable(true);
        }
    }

    private void imageChanged() {
        if (image.isShown()) {
            return;
        }
        closePreview();
        Optional<OpenImage> next = Images.inViewer(bridge.qupath(), bridge.qupath().getViewer());
        if (next.isPresent() && next.get().projectFile().equals(image.projectFile())) {
            image = next.get();
            showImage();
        } else if (running == null) {
            stage.close();
        }
    }

    private void settingsChanged() {
        if (preview == null) {
            return;
        }
        Optional<ExportSettings> wanted = settings.settings();
        preview.update(wanted.orElse(null));
        export.setDisable(wanted.isEmpty() || running != null);
        if (wanted.isEmpty()) {
            answers.say(Strings.get("export.not-a-number"));
        }
    }

    private void imagesChosen() {
        out.proposeAgain();
    }

    @Override
    public void annotationsChanged() {
        settings.showClasses(bridge.qupath(), image);
    }

    @Override
    public void asked() {
        answers.asked();
    }

    @Override
    public void answered(PreviewAnswer answer, boolean isFinal) {
        answers.show(answer, isFinal, Annotations.onScreen(image).isEmpty());
    }

    @Override
    public void failed(BridgeException error) {
        answers.fail(error);
    }

    /** Asks which tissue tests there are, and thereby whether this Python can be used at all. */
    private void askForTissueTests() {
        bridge.send(Request.of("check"), event -> { }, (value, error) -> {
            if (error != null) {
                closePreview();
                answers.fail(error);
                export.setDisable(true);
                return;
            }
            List<String> names = new ArrayList<>();
            for (JsonElement each : value.getAsJsonObject("parts").getAsJsonArray("tissue")) {
                names.add(each.getAsString());
            }
            settings.showTissueTests(names);
        });
    }

    /** Shows the settings of the image's newest export: corrections are of patches like those. */
    private void askForLastSettings() {
        Optional<ExportSettings> first = settings.settings();
        Request request = Request.of("runs").project(image.projectFile())
                .with("entry", image.entry().getID());
        bridge.send(request, event -> { }, (value, error) -> {
            // Whoever typed something meanwhile means that.
            if (error != null || !settings.settings().equals(first)) {
                return;
            }
            JsonArray runs = value.getAsJsonArray("runs");
            if (!runs.isEmpty()) {
                settings.show(ExportSettings.of(
                        runs.get(0).getAsJsonObject().getAsJsonObject("options")));
            }
        });
    }

    /** Offers to finish an export that was stopped, in this QuPath or in an earlier one. */
    private void askForUnfinished() {
        Request request = Request.of("runs").project(image.projectFile());
        bridge.send(request, event -> { }, (value, error) -> {
            Optional<Unfinished> stopped =
                    error == null ? Unfinished.newest(value) : Optional.empty();
            resume.setVisible(stopped.isPresent() && running == null);
            stopped.ifPresent(run -> {
                resume.setOnAction(event -> start(new ExportRun.Job(
                        image.projectFile(), null, run.out(), null, true)));
                outcome.setText(Strings.get("export.unfinished", run.started(), run.imagesDone(),
                        run.images()));
                fit();
            });
        });
    }

    private void start() {
        Optional<ExportSettings> wanted = settings.settings();
        List<String> entries = images.entries();
        if (wanted.isEmpty() || running != null) {
            return;
        }
        if (entries != null && entries.isEmpty()) {
            outcome.setText(Strings.get("export.images.none"));
            return;
        }
        out.folder().ifPresentOrElse(
                folder -> start(new ExportRun.Job(
                        image.projectFile(), entries, folder, wanted.get(), false)),
                () -> outcome.setText(Strings.get("export.out.invalid")));
    }

    private void start(ExportRun.Job job) {
        outcome.setText("");
        show.setVisible(false);
        resume.setVisible(false);
        export.setDisable(true);
        running = new ExportRun(bridge, job, this::finished);
        progress.start(running::cancel);
        running.start(stage, progress::show);
        fit();
    }

    private void finished(JsonObject value, BridgeException error) {
        running = null;
        progress.hide();
        export.setDisable(settings.settings().isEmpty());
        if (error != null) {
            outcome.setText(error.getMessage());
            out.proposeAgain();  // it may hold a part of an export now
            ErrorWindow.show(stage.isShowing() ? stage : bridge.window(), error);
            askForUnfinished();
            return;
        }
        runId = value.get("run_id").getAsString();
        outcome.setText(Outcome.of(value));
        show.setVisible(value.get("in_project").getAsBoolean());
        out.propose(image);
        fit();
    }

    private void showTiles() {
        String run = runId;
        show.setDisable(true);
        preview.update(null);
        answers.say(Strings.get("export.preview-off"));
        new TileTransfer(bridge, image).start(TileChange.Action.SHOW, run, (text, error) -> {
            show.setDisable(false);
            if (error == null) {
                outcome.setText(text);
                fit();
            } else {
                ErrorWindow.show(stage, error);
            }
        });
    }

    private void fit() {
        stage.sizeToScene();
    }

    private void closePreview() {
        if (preview != null) {
            preview.close();
            preview = null;
        }
    }

    private void close() {
        bridge.qupath().imageDataProperty().removeListener(onImage);
        closePreview();
    }
}
