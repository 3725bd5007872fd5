package qupath.ext.patchbridge.tiles;

import qupath.lib.gui.viewer.OverlayOptions;

/** Makes tiles visible as areas while they are shown, and gives QuPath's own settings back. */
final class TileDisplay {

    private static final float OPACITY = 0.5f;

    private static boolean changed;
    private static boolean fill;
    private static boolean shown;
    private static float opacity;

    private TileDisplay() {
    }

    /** Fills tiles, half transparent: as hairlines nobody sees them. */
    static void fill(OverlayOptions options) {
        if (!changed) {
            changed = true;
            fill = options.getFillDetections();
            shown = options.getShowDetections();
            opacity = options.getOpacity();
        }
        options.setShowDetections(true);
        options.setFillDetections(true);
        options.setOpacity(Math.min(opacity, OPACITY));
    }

    /** Sets what was set before {@link #fill}. */
    static void restore(OverlayOptions options) {
        if (changed) {
            changed = false;
            options.setShowDetections(shown);
            options.setFillDetections(fill);
            options.setOpacity(opacity);
        }
    }
}
