package qupath.lib.gui;

import java.awt.image.BufferedImage;
import javafx.beans.property.ReadOnlyObjectProperty;
import javafx.collections.ObservableList;
import javafx.scene.control.Menu;
import javafx.stage.Stage;
import qupath.lib.gui.scripting.ScriptEditor;
import qupath.lib.gui.viewer.OverlayOptions;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.projects.Project;

public class QuPathGUI {

    private QuPathGUI() {
    }

    public static QuPathGUI getInstance() {
        return null;
    }

    public Menu getMenu(String name, boolean createMenu) {
        return null;
    }

    public Stage getStage() {
        return null;
    }

    public QuPathViewer getViewer() {
        return null;
    }

    public ObservableList<QuPathViewer> getAllViewers() {
        return null;
    }

    public ReadOnlyObjectProperty<QuPathViewer> viewerProperty() {
        return null;
    }

    public Project<BufferedImage> getProject() {
        return null;
    }

    public ReadOnlyObjectProperty<Project<BufferedImage>> projectProperty() {
        return null;
    }

    public ImageData<BufferedImage> getImageData() {
        return null;
    }

    public ReadOnlyObjectProperty<ImageData<BufferedImage>> imageDataProperty() {
        return null;
    }

    public ObservableList<PathClass> getAvailablePathClasses() {
        return null;
    }

    public OverlayOptions getOverlayOptions() {
        return null;
    }

    public ScriptEditor getScriptEditor() {
        return null;
    }

    public void refreshProject() {
    }
}
