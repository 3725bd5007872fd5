package qupath.ext.patchbridge.review;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

import javafx.application.Platform;
import javafx.beans.value.ChangeListener;
import javafx.scene.input.KeyEvent;
import javafx.stage.Stage;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.Classes;
import qupath.ext.patchbridge.image.History;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.image.OurTiles;
import qupath.ext.patchbridge.image.ViewerLook;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;
import qupath.lib.roi.interfaces.ROI;

/** The panel "Review patches": shows one patch after the other, and takes a person's word. */
public final class ReviewWindow implements ReviewPane.Actions {

    /** Class of a patch that a person rejects. */
    static final String REJECTED = "Ignore*";

    private static final double TILE_ON_SCREEN = 220;  // pixels

    private final Bridge bridge;
    private final OpenImage image;
    private final Review review;
    private final ReviewPane pane;
    private final Stage stage;
    private final ImageInput input;
    private final PathObjectHierarchyListener onObjects = this::objectsChanged;
    private final ChangeListener<ImageData<?>> onImage = (property, before, now) -> imageChanged();
    private ViewerLook before;
    private int statements;

    /** Makes the panel for an image. */
    public ReviewWindow(Bridge bridge, OpenImage image) {
        this.bridge = bridge;
        this.image = image;
        this.review = new Review(bridge::reviewer);
        this.pane = new ReviewPane(this, bridge.reviewer());
        this.input = new ImageInput(image, pane.keys(), this::selected);
        this.stage = Windows.stage(bridge.window(), Strings.get("review.title"), pane);
        stage.getScene().addEventFilter(KeyEvent.ANY, pane::onKey);
        stage.setOnHidden(event -> close());
    }

    /** Shows the panel, and goes to the first patch. */
    public void show() {
        if (Windows.front(stage.getTitle())) {
            return;
        }
        load();
        if (tiles().isEmpty()) {
            Windows.message(Strings.get("review.no-tiles"));
            return;
        }
        image.data().getHierarchy().addListener(onObjects);
        input.start();
        bridge.qupath().imageDataProperty().addListener(onImage);
        before = ViewerLook.of(image.viewer().getOverlayOptions());
        before.withTissue().apply(image.viewer().getOverlayOptions());
        pane.showClasses(classes(), labels(), hardLists());
        Windows.show(stage);
        choose(Review.Order.ALL, null);
    }

    @Override
    public void choose(Review.Order order, String label) {
        review.choose(order, label);
        zoom();
        goTo();
    }

    @Override
    public void confirm() {
        said(review.confirm());
    }

    @Override
    public void give(String label) {
        said(review.give(label));
    }

    @Override
    public void reject() {
        said(review.give(REJECTED));
    }

    @Override
    public void undo() {
        said(review.undo());
    }

    @Override
    public void next() {
        review.next();
        goTo();
    }

    @Override
    public void previous() {
        review.previous();
        goTo();
    }

    @Override
    public void reviewer(String name) {
        bridge.setReviewer(name);
    }

    private void said(Optional<ReviewTile> tile) {
        tile.ifPresent(changed -> {
            statements++;
            image.data().getHierarchy().fireObjectClassificationsChangedEvent(this,
                    List.of(((TileObject) changed).object()));
        });
        goTo();
    }

    private List<TileObject> tiles() {
        return OurTiles.of(image.data()).stream()
                .sorted(ReviewWindow::byPlace).map(TileObject::new).toList();
    }

    /** Orders tiles as one reads: rows from above, each from the left. */
    private static int byPlace(PathObject one, PathObject other) {
        int rows = Double.compare(one.getROI().getBoundsY(), other.getROI().getBoundsY());
        return rows != 0 ? rows
                : Double.compare(one.getROI().getBoundsX(), other.getROI().getBoundsX());
    }

    private void load() {
        review.load(tiles());
    }

    private List<PathClass> classes() {
        return Classes.ordinary(bridge.qupath());
    }

    /** Returns the classes that the tiles have: those of the project first, in its order. */
    private List<String> labels() {
        Set<String> used = new LinkedHashSet<>();
        tiles().stream().map(TileObject::label).filter(Objects::nonNull).forEach(used::add);
        List<String> labels = new ArrayList<>();
        classes().stream().map(PathClass::toString).filter(used::remove).forEach(labels::add);
        labels.addAll(used);
        return labels;
    }

    private List<String> hardLists() {
        return tiles().stream().flatMap(tile -> tile.hardLists().stream()).distinct().sorted()
                .toList();
    }

    private void objectsChanged(PathObjectHierarchyEvent event) {
        if (event.getSource() != this && !event.isChanging()) {
            Platform.runLater(() -> {
                load();
                pane.show(review);
            });
        }
    }

    /** Follows a person who selects a patch in the image. */
    private void selected(UUID id) {
        if (review.visit(id)) {
            pane.show(review);
        }
    }

    private void imageChanged() {
        if (!image.isShown()) {
            stage.close();
        }
    }

    /** Shows the first patch at a size at which it can be judged. */
    private void zoom() {
        review.current().ifPresent(tile -> {
            ROI box = ((TileObject) tile).object().getROI();
            image.viewer().setDownsampleFactor(
                    Math.max(box.getBoundsWidth(), box.getBoundsHeight()) / TILE_ON_SCREEN);
        });
    }

    private void goTo() {
        pane.show(review);
        QuPathViewer viewer = image.viewer();
        Optional<ReviewTile> current = image.isShown() ? review.current() : Optional.empty();
        current.ifPresent(tile -> {
            PathObject object = ((TileObject) tile).object();
            ROI box = object.getROI();
            viewer.setZPosition(box.getZ());
            viewer.setTPosition(box.getT());
            viewer.setCenterPixelLocation(box.getCentroidX(), box.getCentroidY());
            viewer.setSelectedObject(object);
        });
    }

    private void close() {
        image.data().getHierarchy().removeListener(onObjects);
        input.stop();
        bridge.qupath().imageDataProperty().removeListener(onImage);
        before.apply(image.viewer().getOverlayOptions());
        if (image.isShown()) {
            image.viewer().setSelectedObject(null);
        }
        if (statements > 0) {
            History.add(image.data(), Strings.get("history.review"), "collectCorrections",
                    bridge.reviewer());
        }
    }
}
