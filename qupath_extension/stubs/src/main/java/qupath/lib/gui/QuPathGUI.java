package qupath.lib.gui;

import java.awt.image.BufferedImage;
import javafx.beans.property.ReadOnlyObjectProperty;
import javafx.scene.control.Menu;
import javafx.stage.Stage;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

public class QuPathGUI {

    private QuPathGUI() {
    }

    public Menu getMenu(String name, boolean createMenu) {
        return null;
    }

    public Stage getStage() {
        return null;
    }

    public Project<BufferedImage> getProject() {
        return null;
    }

    public ReadOnlyObjectProperty<Project<BufferedImage>> projectProperty() {
        return null;
    }

    public ReadOnlyObjectProperty<ImageData<BufferedImage>> imageDataProperty() {
        return null;
    }
}
