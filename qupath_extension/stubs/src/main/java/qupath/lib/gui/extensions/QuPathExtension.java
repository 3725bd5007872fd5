package qupath.lib.gui.extensions;

import qupath.lib.common.Version;
import qupath.lib.gui.QuPathGUI;

public interface QuPathExtension {

    void installExtension(QuPathGUI qupath);

    String getName();

    String getDescription();

    default Version getQuPathVersion() {
        return null;
    }

    default Version getVersion() {
        return null;
    }
}
