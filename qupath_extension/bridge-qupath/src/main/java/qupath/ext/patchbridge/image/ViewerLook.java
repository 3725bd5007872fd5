package qupath.ext.patchbridge.image;

import qupath.lib.gui.viewer.OverlayOptions;

/**
 * How viewers draw objects: remembered before we change it, and given back.
 *
 * @param showDetections whether tiles are drawn
 * @param fillDetections whether they are filled
 * @param showNames whether names stand beside objects
 * @param opacity of everything that is drawn over the image, from 0 to 1
 */
public record ViewerLook(boolean showDetections, boolean fillDetections, boolean showNames,
        float opacity) {

    private static final float TILE_OPACITY = 0.5f;

    /** Returns how viewers draw now. */
    public static ViewerLook of(OverlayOptions options) {
        return new ViewerLook(options.getShowDetections(), options.getFillDetections(),
                options.getShowNames(), options.getOpacity());
    }

    /**
     * Returns the look in which tiles are areas: as hairlines nobody sees them, and a name at each of
     * them covers the tissue.
     */
    public ViewerLook withTiles() {
        return new ViewerLook(true, true, false, Math.min(opacity, TILE_OPACITY));
    }

    /** Returns the look in which the tissue of a tile can be judged: outlines, and no names. */
    public ViewerLook withTissue() {
        return new ViewerLook(true, false, false, 1);
    }

    /** Makes viewers draw so. */
    public void apply(OverlayOptions options) {
        options.setShowDetections(showDetections);
        options.setFillDetections(fillDetections);
        options.setShowNames(showNames);
        options.setOpacity(opacity);
    }
}
