package qupath.ext.patchbridge.export;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.Rectangle;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;

import qupath.lib.gui.viewer.OverlayOptions;
import qupath.lib.gui.viewer.overlays.AbstractOverlay;
import qupath.lib.images.ImageData;
import qupath.lib.regions.ImageRegion;

/** Draws the boxes of a preview over an image; nothing of it is saved. */
final class PatchOverlay extends AbstractOverlay {

    private static final double SMALL = 8;  // pixels on screen: below, boxes have no outline
    private static final int FILL = 70;  // opacity, of 255
    private static final Color UNLABELLED = new Color(128, 128, 128, FILL);

    private final ImageData<BufferedImage> shownOn;
    private final PatchBoxes boxes;
    private final Color[] fills;
    private final Color[] outlines;

    /**
     * Makes the overlay of an image.
     *
     * @param options options of the viewer
     * @param shownOn the image that the boxes were made for: on another one nothing is drawn
     * @param boxes the boxes
     * @param colors one colour per label
     */
    PatchOverlay(OverlayOptions options, ImageData<BufferedImage> shownOn, PatchBoxes boxes,
            Color[] colors) {
        super(options);
        this.shownOn = shownOn;
        this.boxes = boxes;
        this.outlines = colors.clone();
        this.fills = new Color[colors.length];
        for (int index = 0; index < colors.length; index++) {
            Color color = colors[index];
            fills[index] = new Color(color.getRed(), color.getGreen(), color.getBlue(), FILL);
        }
    }

    @Override
    public void paintOverlay(Graphics2D g2d, ImageRegion region, double downsample,
            ImageData<BufferedImage> imageData, boolean paintCompletely) {
        if (imageData != shownOn || !isVisible()) {
            return;
        }
        Rectangle clip = g2d.getClipBounds();
        if (clip == null) {
            clip = new Rectangle(region.getX(), region.getY(), region.getWidth(),
                    region.getHeight());
        }
        Graphics2D graphics = (Graphics2D) g2d.create();
        try {
            graphics.setRenderingHint(RenderingHints.KEY_ANTIALIASING,
                    RenderingHints.VALUE_ANTIALIAS_OFF);
            graphics.setStroke(new BasicStroke((float) (downsample * 1.5)));
            if (boxes.tallest() < SMALL * downsample) {
                boxes.visitMerged(clip.x, clip.y, clip.width, clip.height,
                        (x, y, width, height, label) -> {
                            graphics.setColor(fill(label));
                            graphics.fillRect(x, y, width, height);
                        });
            } else {
                boxes.visit(clip.x, clip.y, clip.width, clip.height,
                        (x, y, width, height, label) -> draw(graphics, downsample,
                                new Rectangle(x, y, width, height), label));
            }
        } finally {
            graphics.dispose();
        }
    }

    private Color fill(int label) {
        return label < 0 ? UNLABELLED : fills[label];
    }

    private void draw(Graphics2D graphics, double downsample, Rectangle box, int label) {
        graphics.setColor(fill(label));
        graphics.fillRect(box.x, box.y, box.width, box.height);
        int inset = (int) Math.ceil(downsample);  // so that neighbours have an outline each
        graphics.setColor(label < 0 ? Color.GRAY : outlines[label]);
        graphics.drawRect(box.x + inset, box.y + inset, box.width - 2 * inset,
                box.height - 2 * inset);
    }
}
