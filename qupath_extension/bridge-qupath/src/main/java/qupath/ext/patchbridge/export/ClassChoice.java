package qupath.ext.patchbridge.export;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import javafx.scene.control.CheckBox;
import javafx.scene.layout.VBox;
import javafx.scene.paint.Color;
import javafx.scene.shape.Rectangle;

import qupath.ext.patchbridge.core.Strings;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** Check boxes of the project's classes, each with its number of annotations in the image. */
final class ClassChoice extends VBox {

    private static final double SWATCH = 12;

    private final Map<String, CheckBox> boxes = new LinkedHashMap<>();
    private final Runnable onChange;

    ClassChoice(Runnable onChange) {
        super(4);
        this.onChange = onChange;
        setId("patch-bridge-classes");
    }

    /** Shows classes and counts; those that were unchecked before stay unchecked. */
    void show(List<PathClass> classes, Collection<PathObject> annotations) {
        // The same boxes stay in place: a person may be about to click one.
        if (!List.copyOf(boxes.keySet()).equals(classes.stream().map(PathClass::toString).toList())) {
            make(classes);
        }
        for (PathClass each : classes) {
            long count = annotations.stream().filter(one -> each.equals(one.getPathClass())).count();
            boxes.get(each.toString()).setText(Strings.get("export.class", each.toString(), count));
        }
    }

    private void make(List<PathClass> classes) {
        List<String> before = unchecked();
        boxes.clear();
        getChildren().clear();
        for (PathClass each : classes) {
            String name = each.toString();
            CheckBox box = new CheckBox();
            box.setMnemonicParsing(false);
            box.setGraphic(new Rectangle(SWATCH, SWATCH, color(each)));
            box.setSelected(!before.contains(name));
            box.setOnAction(event -> onChange.run());
            boxes.put(name, box);
            getChildren().add(box);
        }
    }

    /** Takes the ticks of some classes away; all others have one. */
    void uncheck(Collection<String> names) {
        boxes.forEach((name, box) -> box.setSelected(!names.contains(name)));
    }

    /** Returns the names of the classes that are not checked. */
    List<String> unchecked() {
        List<String> names = new ArrayList<>();
        boxes.forEach((name, box) -> {
            if (!box.isSelected()) {
                names.add(name);
            }
        });
        return names;
    }

    private static Color color(PathClass each) {
        Integer rgb = each.getColor();
        return rgb == null ? Color.GRAY
                : Color.rgb((rgb >> 16) & 0xFF, (rgb >> 8) & 0xFF, rgb & 0xFF);
    }
}
