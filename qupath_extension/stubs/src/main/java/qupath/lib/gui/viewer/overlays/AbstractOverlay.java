package qupath.lib.gui.viewer.overlays;

import qupath.lib.gui.viewer.OverlayOptions;

public abstract class AbstractOverlay implements PathOverlay {

    protected AbstractOverlay(OverlayOptions options) {
    }

    public boolean isVisible() {
        return false;
    }
}
