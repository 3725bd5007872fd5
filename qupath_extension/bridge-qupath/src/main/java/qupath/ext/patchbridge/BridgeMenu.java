package qupath.ext.patchbridge;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

import javafx.beans.binding.BooleanBinding;
import javafx.scene.control.Menu;
import javafx.scene.control.MenuItem;
import javafx.scene.control.SeparatorMenuItem;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.corrections.CorrectionsWindow;
import qupath.ext.patchbridge.export.ExportWindow;
import qupath.ext.patchbridge.image.Images;
import qupath.ext.patchbridge.image.OpenImage;
import qupath.ext.patchbridge.review.ReviewWindow;
import qupath.ext.patchbridge.setup.SetUpWindow;
import qupath.ext.patchbridge.tiles.RunsWindow;
import qupath.ext.patchbridge.ui.Bridge;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.gui.QuPathGUI;

/** The items of the menu, and when they can be chosen. */
final class BridgeMenu {

    private final QuPathGUI qupath;
    private final Bridge bridge;
    private final BooleanBinding noImage;
    private final BooleanBinding noProject;

    BridgeMenu(QuPathGUI qupath) {
        this.qupath = qupath;
        this.bridge = new Bridge(qupath);
        this.noImage = qupath.imageDataProperty().isNull().or(qupath.projectProperty().isNull());
        this.noProject = qupath.projectProperty().isNull();
    }

    List<MenuItem> items() {
        List<MenuItem> items = new ArrayList<>();
        items.add(item("menu.set-up", () -> new SetUpWindow(bridge).show()));
        items.add(new SeparatorMenuItem());
        items.add(forImage("menu.export", image -> new ExportWindow(bridge, image).show()));
        items.add(new SeparatorMenuItem());
        items.add(forImage("menu.show", image -> RunsWindow.toShow(bridge, image).show()));
        items.add(forImage("menu.remove", image -> RunsWindow.toRemove(bridge, image).show()));
        items.add(forImage("menu.review", image -> new ReviewWindow(bridge, image).show()));
        MenuItem corrections = item("menu.corrections", () -> new CorrectionsWindow(bridge).show());
        corrections.disableProperty().bind(noProject);
        items.add(corrections);
        items.add(new SeparatorMenuItem());
        items.add(scripts());
        return items;
    }

    private static MenuItem item(String key, Runnable action) {
        MenuItem item = new MenuItem(Strings.get(key));
        item.setId("patch-bridge-" + key);
        item.setOnAction(event -> action.run());
        return item;
    }

    private MenuItem forImage(String key, Consumer<OpenImage> action) {
        MenuItem item = item(key, () -> Images.inViewer(qupath, qupath.getViewer()).ifPresentOrElse(
                action, () -> Windows.message(Strings.get("images.not-in-project"))));
        item.disableProperty().bind(noImage);
        return item;
    }

    private Menu scripts() {
        Menu menu = new Menu(Strings.get("menu.scripts"));
        for (String name : Scripts.NAMES) {
            MenuItem item = new MenuItem(Strings.get("scripts." + name));
            item.setOnAction(event -> Scripts.open(qupath, name));
            menu.getItems().add(item);
        }
        return menu;
    }
}
