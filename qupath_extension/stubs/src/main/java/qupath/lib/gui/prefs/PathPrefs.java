package qupath.lib.gui.prefs;

import javafx.beans.property.StringProperty;

public class PathPrefs {

    private PathPrefs() {
    }

    public static StringProperty createPersistentPreference(String name, String defaultValue) {
        return null;
    }
}
