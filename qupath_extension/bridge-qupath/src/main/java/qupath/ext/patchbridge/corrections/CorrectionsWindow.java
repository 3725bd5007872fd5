package qupath.ext.patchbridge.corrections;

import java.awt.image.BufferedImage;
import java.nio.file.Path;
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
import qupath.ext.patchbridge.export.ExportWindow;
import qupath.ext.patchbridge.image.History;
import qupath.ext.patchbridge.image.Images;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.image.Unsaved;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.ErrorWindow;
import qupath.ext.patchbridge.ui.Tables;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.projects.Project;

/** The window "Corrections": lists what people said about patches, and stores it. */
public final class CorrectionsWindow {

    private static final double WIDTH = 760;
    private static final double HEIGHT = 170;

    private final Bridge bridge;
    private final Path project;
    private final Stage stage;
    private final TableView<SlideCorrections> slides = new TableView<>();
    private final TableView<SlideCorrections.Item> items = new TableView<>();
    private final Label notes = Windows.wrapped("");
    private final Label outcome = Windows.wrapped("");
    private final ChangeListener<Project<?>> onProject = (property, before, now) -> close();
    private final Button collect = button("corrections.collect", "collect", this::collect);
    private final Button accept = button("corrections.accept", "accept", () -> decide("accept"));
    private final Button dismiss = button("corrections.dismiss", "dismiss", () -> decide("dismiss"));
    private final Button export = button("corrections.export", "export-again", this::exportAgain);

    /** Makes the window for the project that is open. */
    public CorrectionsWindow(Bridge bridge) {
        this.bridge = bridge;
        Project<BufferedImage> open = bridge.qupath().getProject();
        this.project = open.getPath();
        fillTables();
        outcome.setId("patch-bridge-outcome");
        stage = Windows.stage(bridge.window(), Strings.get("corrections.title"), content());
        stage.setOnHidden(event ->
                bridge.qupath().projectProperty().removeListener(onProject));
    }

    /** Shows the window and asks for the corrections. */
    public void show() {
        if (Windows.front(stage.getTitle())) {
            return;
        }
        bridge.qupath().projectProperty().addListener(onProject);
        Windows.show(stage);
        ask("list", null);
    }

    private void close() {
        stage.close();
    }

    private void fillTables() {
        slides.setId("patch-bridge-slides");
        items.setId("patch-bridge-items");
        Tables.column(slides, Strings.get("corrections.image"), 230, SlideCorrections::name);
        Tables.column(slides, Strings.get("corrections.corrected"), 85,
                SlideCorrections::corrected);
        Tables.column(slides, Strings.get("corrections.confirmed"), 85,
                SlideCorrections::confirmed);
        Tables.column(slides, Strings.get("corrections.rejected"), 85, SlideCorrections::rejected);
        Tables.column(slides, Strings.get("corrections.contested"), 85,
                SlideCorrections::contested);
        Tables.column(slides, Strings.get("corrections.unsure"), 85, SlideCorrections::unsure);
        Tables.column(items, Strings.get("corrections.patch"), 230,
                SlideCorrections.Item::patch);
        Tables.column(items, Strings.get("corrections.kind"), 90, SlideCorrections.Item::kind);
        Tables.column(items, Strings.get("corrections.before"), 110,
                SlideCorrections.Item::before);
        Tables.column(items, Strings.get("corrections.after"), 110, SlideCorrections.Item::after);
        Tables.column(items, Strings.get("corrections.reviewer"), 90,
                SlideCorrections.Item::reviewer);
        Tables.column(items, Strings.get("corrections.time"), 130, SlideCorrections.Item::time);
        slides.setPlaceholder(new Label(Strings.get("corrections.asked")));
        items.setPlaceholder(new Label(""));
        slides.setPrefSize(WIDTH, HEIGHT);
        items.setPrefSize(WIDTH, HEIGHT);
        slides.getSelectionModel().selectedItemProperty().addListener(
                (item, before, now) -> showSlide(now));
        showSlide(null);
    }

    private void showSlide(SlideCorrections slide) {
        items.getItems().setAll(slide == null ? List.of() : slide.items());
        notes.setText(slide == null ? "" : String.join("\n", slide.notes()));
        boolean nothingToDecide = slide == null || slide.unsure() == 0;
        accept.setDisable(nothingToDecide);
        dismiss.setDisable(nothingToDecide);
    }

    private VBox content() {
        Button close = new Button(Strings.get("window.close"));
        close.setOnAction(event -> stage.close());
        Region space = new Region();
        HBox.setHgrow(space, Priority.ALWAYS);
        VBox.setVgrow(items, Priority.ALWAYS);
        VBox content = new VBox(10, Windows.wrapped(Strings.get("corrections.explanation")),
                slides, items, notes, outcome, new HBox(8, collect, accept, dismiss, space, export, close));
        content.setPadding(new Insets(14));
        return content;
    }

    private static Button button(String key, String id, Runnable action) {
        Button button = new Button(Strings.get(key));
        button.setId("patch-bridge-" + id);
        button.setOnAction(event -> action.run());
        return button;
    }

    /** Saves what is open, since Python reads what is saved, and stores the corrections. */
    private void collect() {
        List<OpenImage> open = Images.open(bridge.qupath());
        collect.setDisable(true);
        outcome.setText(Strings.get("corrections.working"));
        Unsaved.save(open, error -> {
            if (error != null) {
                finished(error);
                return;
            }
            ask("collect", null);
        });
    }

    private void decide(String action) {
        SlideCorrections slide = slides.getSelectionModel().getSelectedItem();
        if (slide != null) {
            ask(action, List.of(slide.entry()));
        }
    }

    private void ask(String action, List<String> entries) {
        Request request = Request.of("corrections").project(project).with("action", action)
                .with("entries", entries);
        bridge.send(request, event -> { }, (value, error) -> {
            if (error != null) {
                finished(error);
            } else if ("list".equals(action)) {
                show(SlideCorrections.list(value));
            } else {
                outcome.setText(Strings.get("corrections.done." + action));
                remember(action, entries);
                ask("list", null);
            }
        });
    }

    /** Writes what was done into the history of the images that are open. */
    private void remember(String action, List<String> entries) {
        String[] arguments = "collect".equals(action) ? new String[] {bridge.reviewer()}
                : new String[0];
        Images.open(bridge.qupath()).stream()
                .filter(image -> entries == null || entries.contains(image.entry().getID()))
                .forEach(image -> History.add(image.data(), Strings.get("history." + action),
                        action + "Corrections", arguments));
    }

    private void show(List<SlideCorrections> all) {
        collect.setDisable(false);
        SlideCorrections before = slides.getSelectionModel().getSelectedItem();
        slides.setPlaceholder(new Label(Strings.get("corrections.none")));
        List<SlideCorrections> some = all.stream().filter(each -> !each.isEmpty()).toList();
        slides.getItems().setAll(some);
        some.stream().filter(slide -> before != null && slide.entry().equals(before.entry()))
                .findFirst().ifPresentOrElse(slides.getSelectionModel()::select,
                        slides.getSelectionModel()::selectFirst);
    }

    private void finished(BridgeException error) {
        collect.setDisable(false);
        outcome.setText(error.getMessage());
        ErrorWindow.show(stage, error);
    }

    private void exportAgain() {
        Images.inViewer(bridge.qupath(), bridge.qupath().getViewer()).ifPresentOrElse(
                image -> new ExportWindow(bridge, image).show(),
                () -> outcome.setText(Strings.get("images.not-in-project")));
    }
}
