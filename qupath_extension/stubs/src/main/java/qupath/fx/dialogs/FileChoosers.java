package qupath.fx.dialogs;

import java.io.File;
import javafx.stage.FileChooser.ExtensionFilter;
import javafx.stage.Window;

public class FileChoosers {

    private FileChoosers() {
    }

    public static File promptForDirectory(Window owner, String title, File initialDir) {
        return null;
    }

    public static File promptForFile(Window owner, String title, ExtensionFilter... filters) {
        return null;
    }
}
