package qupath.ext.patchbridge;

import javafx.scene.control.Menu;

import qupath.ext.patchbridge.core.BridgeVersion;
import qupath.ext.patchbridge.core.Strings;
import qupath.lib.common.Version;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;

/** What QuPath loads: puts the menu <em>Extensions, Patch bridge</em> in place. */
public final class PatchBridgeExtension implements QuPathExtension {

    private boolean installed;

    @Override
    public void installExtension(QuPathGUI qupath) {
        if (installed) {
            return;
        }
        installed = true;
        Menu menu = qupath.getMenu("Extensions>" + getName(), true);
        menu.getItems().setAll(new BridgeMenu(qupath).items());
    }

    @Override
    public String getName() {
        return Strings.get("extension.name");
    }

    @Override
    public String getDescription() {
        return Strings.get("extension.description");
    }

    @Override
    public Version getVersion() {
        return Version.parse(BridgeVersion.current());
    }
}
