package qupath.ext.patchbridge.export;

import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

import javafx.scene.control.Alert;
import javafx.scene.control.Button;
import javafx.scene.control.ButtonType;
import javafx.scene.control.CheckBox;
import javafx.scene.control.ComboBox;
import javafx.scene.control.ScrollPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.lib.projects.ProjectImageEntry;

/** Chooses the images of an export: the open one, some, or all of the project. */
final class ImageChoice extends HBox {

    private static final double LIST_WIDTH = 360;
    private static final double LIST_HEIGHT = 320;

    /** Which images. */
    enum Which {
        THIS, CHOSEN, ALL;

        private String key() {
            return "export.images." + name().toLowerCase(Locale.ROOT);
        }
    }

    private final ComboBox<Which> which = new ComboBox<>();
    private final Button choose = new Button(Strings.get("export.images.choose", 0));
    private final Set<String> chosen = new LinkedHashSet<>();
    private OpenImage image;

    /**
     * Makes a choice.
     *
     * @param onChange called when a person chooses otherwise
     */
    ImageChoice(Runnable onChange) {
        super(8);
        which.setId("patch-bridge-images");
        which.getItems().setAll(Which.values());
        which.setValue(Which.THIS);
        which.valueProperty().addListener(change -> onChange.run());
        which.setConverter(new javafx.util.StringConverter<>() {
            @Override
            public String toString(Which value) {
                return value == null ? "" : Strings.get(value.key());
            }

            @Override
            public Which fromString(String text) {
                throw new UnsupportedOperationException();
            }
        });
        choose.setId("patch-bridge-choose-images");
        choose.setOnAction(event -> choose());
        choose.visibleProperty().bind(which.valueProperty().isEqualTo(Which.CHOSEN));
        getChildren().setAll(which, choose);
    }

    /** Sets the open image. */
    void showImage(OpenImage open) {
        image = open;
    }

    /** Returns the ids of the images; null for all of the project. */
    List<String> entries() {
        return switch (which.getValue()) {
            case THIS -> List.of(image.entry().getID());
            case CHOSEN -> List.copyOf(chosen);
            case ALL -> null;
        };
    }

    /** Returns a short name for the folder of the patches. */
    String folderName() {
        return switch (which.getValue()) {
            case THIS -> image.entry().getID();
            case CHOSEN -> "chosen";
            case ALL -> "all";
        };
    }

    private void choose() {
        Map<String, CheckBox> boxes = new LinkedHashMap<>();
        List<ProjectImageEntry<BufferedImage>> entries = image.project().getImageList();
        List<String> names = entries.stream().map(ProjectImageEntry::getImageName).toList();
        for (ProjectImageEntry<BufferedImage> entry : entries) {
            String name = entry.getImageName();
            boolean isUnique = Collections.frequency(names, name) == 1;
            CheckBox box = new CheckBox(isUnique ? name
                    : Strings.get("export.images.same-name", name, entry.getID()));
            box.setMnemonicParsing(false);
            box.setSelected(chosen.contains(entry.getID()));
            boxes.put(entry.getID(), box);
        }
        VBox list = new VBox(4);
        list.getChildren().setAll(boxes.values());
        ScrollPane scroll = new ScrollPane(list);
        scroll.setMinSize(LIST_WIDTH, LIST_HEIGHT);
        Alert alert = new Alert(Alert.AlertType.NONE, "", ButtonType.OK, ButtonType.CANCEL);
        alert.initOwner(getScene().getWindow());
        alert.setResizable(true);
        alert.setTitle(Strings.get("export.images.title"));
        alert.getDialogPane().setContent(scroll);
        if (alert.showAndWait().orElse(ButtonType.CANCEL) == ButtonType.OK) {
            chosen.clear();
            List<String> ids = new ArrayList<>(boxes.keySet());
            ids.removeIf(id -> !boxes.get(id).isSelected());
            chosen.addAll(ids);
            choose.setText(Strings.get("export.images.choose", chosen.size()));
        }
    }
}
