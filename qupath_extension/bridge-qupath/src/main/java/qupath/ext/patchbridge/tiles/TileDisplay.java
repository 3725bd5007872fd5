package qupath.ext.patchbridge.tiles;

import qupath.ext.patchbridge.image.ViewerLook;
import qupath.lib.gui.viewer.OverlayOptions;

/** Makes tiles visible as areas while they are shown, and gives QuPath's own settings back. */
final class TileDisplay {

    private static ViewerLook before;

    private TileDisplay() {
    }

    /** Fills tiles, half transparent. */
    static void fill(OverlayOptions options) {
        if (before == null) {
            before = ViewerLook.of(options);
            before.withTiles().apply(options);
        }
    }

    /** Sets what was set before {@link #fill}. */
    static void restore(OverlayOptions options) {
        if (before != null) {
            before.apply(options);
            before = null;
        }
    }
}
