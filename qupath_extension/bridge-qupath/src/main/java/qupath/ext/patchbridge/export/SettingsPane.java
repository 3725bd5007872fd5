package qupath.ext.patchbridge.export;

import java.util.List;
import java.util.Optional;

import javafx.scene.Node;
import javafx.scene.control.CheckBox;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.ScrollPane;
import javafx.scene.control.TextField;
import javafx.scene.control.Tooltip;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.Priority;
import javafx.scene.layout.VBox;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.Annotations;
import qupath.ext.patchbridge.image.Classes;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.objects.classes.PathClass;

/** The fields of the export window that decide which patches there are. */
final class SettingsPane extends GridPane {

    private static final String DEFAULT_SIZE = "256";
    private static final String DEFAULT_MPP = "0.5";
    private static final String UNSET = "";
    private static final String ANY = "any";
    private static final double CLASSES_HEIGHT = 130;
    private static final double NOTE_WIDTH = 300;

    private final TextField size = new TextField(DEFAULT_SIZE);
    private final TextField mpp = new TextField(DEFAULT_MPP);
    private final Label ownMpp = new Label();
    private final CheckBox fullResolution = new CheckBox(Strings.get("export.full-resolution"));
    private final ComboBox<String> rule = new ComboBox<>();
    private final ComboBox<String> within = new ComboBox<>();
    private final ComboBox<String> tissue = new ComboBox<>();
    private final ClassChoice classes;
    private final Runnable onChange;

    SettingsPane(Runnable onChange) {
        this.onChange = onChange;
        this.classes = new ClassChoice(onChange);
        setHgap(10);
        setVgap(8);
        name(size, "size");
        name(mpp, "mpp");
        name(fullResolution, "full-resolution");
        name(rule, "rule");
        name(within, "within");
        name(tissue, "tissue");
        size.setPrefColumnCount(6);
        mpp.setPrefColumnCount(6);
        rule.getItems().setAll(ExportSettings.RULES);
        rule.setValue(ExportSettings.RULES.get(0));
        rule.setConverter(new OneWay(value -> Strings.get("export.rule." + value)));
        within.getItems().setAll(UNSET, ANY);
        within.setValue(UNSET);
        within.setConverter(new OneWay(value -> switch (value) {
            case UNSET -> Strings.get("export.within.anywhere");
            case ANY -> Strings.get("export.within.any");
            default -> value;
        }));
        showTissueTests(List.of());
        tissue.setConverter(new OneWay(
                value -> value.isEmpty() ? Strings.get("export.tissue.none")
                        : Strings.forName("export.tissue.", value)));
        mpp.disableProperty().bind(fullResolution.selectedProperty());
        layOut();
        listen();
    }

    private static void name(Node node, String id) {
        node.setId("patch-bridge-" + id);
    }

    private void layOut() {
        ScrollPane scroll = new ScrollPane(classes);
        scroll.setFitToWidth(true);
        scroll.setPrefViewportHeight(CLASSES_HEIGHT);
        row("export.size", new HBox(8, size, new Label(Strings.get("export.pixels"))));
        row("export.mpp", new HBox(8, mpp, ownMpp));
        row(null, fullResolution);
        row("export.rule", rule);
        Label note = Windows.wrapped(Strings.get("export.classes.note"));
        note.setPrefWidth(NOTE_WIDTH);
        row("export.classes", new VBox(4, scroll, note));
        row("export.within", within);
        row("export.tissue", tissue);
        scroll.setTooltip(new Tooltip(Strings.get("export.classes.tip")));
        setHgrow(scroll.getParent(), Priority.ALWAYS);
    }

    /** Adds a row at the end; the key of its name is null for a row without one. */
    void row(String key, Node field) {
        int row = getRowCount();
        if (key != null) {
            Label name = new Label(Strings.get(key));
            name.setMinWidth(USE_PREF_SIZE);  // the fields get narrow first
            add(name, 0, row);
        }
        add(field, 1, row);
    }

    private void listen() {
        size.textProperty().addListener(change -> onChange.run());
        mpp.textProperty().addListener(change -> onChange.run());
        fullResolution.selectedProperty().addListener(change -> onChange.run());
        rule.valueProperty().addListener(change -> onChange.run());
        within.valueProperty().addListener(change -> onChange.run());
        tissue.valueProperty().addListener(change -> onChange.run());
    }

    /** Shows the classes and the pixel size of an image; what was chosen before stays. */
    void showImage(QuPathGUI qupath, OpenImage image) {
        showClasses(qupath, image);
        String chosen = within.getValue();
        within.getItems().setAll(UNSET, ANY);
        Classes.all(qupath).stream().map(PathClass::toString).forEach(within.getItems()::add);
        within.setValue(within.getItems().contains(chosen) ? chosen : UNSET);
        PixelCalibration pixels = image.data().getServer().getPixelCalibration();
        boolean known = pixels.hasPixelSizeMicrons();
        ownMpp.setText(known ? Strings.get("export.own-mpp", pixels.getPixelWidthMicrons())
                : Strings.get("export.own-mpp.unknown"));
        if (!known) {
            fullResolution.setSelected(true);
        }
    }

    /** Shows the classes of an image with the annotations that it has now. */
    void showClasses(QuPathGUI qupath, OpenImage image) {
        classes.show(Classes.ordinary(qupath), Annotations.onScreen(image));
    }

    /** Offers the tissue tests that this Python has. */
    void showTissueTests(List<String> names) {
        String chosen = tissue.getValue();
        tissue.getItems().setAll(UNSET);
        names.stream().filter(name -> !"none".equals(name)).forEach(tissue.getItems()::add);
        tissue.setValue(tissue.getItems().contains(chosen) ? chosen : UNSET);
    }

    /** Shows settings, such as those of an earlier export. */
    void show(ExportSettings wanted) {
        size.setText(String.valueOf(wanted.size()));
        fullResolution.setSelected(wanted.mpp() == null);
        if (wanted.mpp() != null) {
            mpp.setText(String.valueOf(wanted.mpp()));
        }
        rule.setValue(wanted.rule());
        choose(within, wanted.within());
        choose(tissue, wanted.tissue());
        classes.uncheck(wanted.exclude());
        onChange.run();
    }

    private static void choose(ComboBox<String> box, String value) {
        String shown = value == null ? UNSET : value;
        if (!box.getItems().contains(shown)) {
            box.getItems().add(shown);
        }
        box.setValue(shown);
    }

    /** Returns the settings; empty if a number cannot be read. */
    Optional<ExportSettings> settings() {
        try {
            int pixels = Integer.parseInt(size.getText().strip());
            if (pixels < 1) {
                return Optional.empty();
            }
            Double resolution = fullResolution.isSelected() ? null : number(mpp.getText());
            return Optional.of(new ExportSettings(pixels, resolution, rule.getValue(), blankToNull(within.getValue()),
                    classes.unchecked(), blankToNull(tissue.getValue())));
        } catch (NumberFormatException error) {
            return Optional.empty();
        }
    }

    private static double number(String text) {
        double value = Double.parseDouble(text.strip().replace(',', '.'));
        if (!(value > 0) || Double.isInfinite(value)) {
            throw new NumberFormatException(text);
        }
        return value;
    }

    private static String blankToNull(String text) {
        return text == null || text.isEmpty() ? null : text;
    }
}
