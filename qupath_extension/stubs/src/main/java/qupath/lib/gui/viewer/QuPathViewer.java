package qupath.lib.gui.viewer;

import java.awt.image.BufferedImage;
import javafx.collections.ObservableList;
import javafx.scene.layout.Pane;
import qupath.lib.gui.viewer.overlays.PathOverlay;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

public class QuPathViewer {

    private QuPathViewer() {
    }

    public ImageData<BufferedImage> getImageData() {
        return null;
    }

    public Pane getView() {
        return null;
    }

    public OverlayOptions getOverlayOptions() {
        return null;
    }

    public ObservableList<PathOverlay> getCustomOverlayLayers() {
        return null;
    }

    public void repaint() {
    }

    public PathObject getSelectedObject() {
        return null;
    }

    public void setSelectedObject(PathObject pathObject) {
    }

    public double getDownsampleFactor() {
        return 0;
    }

    public void setDownsampleFactor(double downsampleFactor) {
    }

    public void setCenterPixelLocation(double x, double y) {
    }

    public void setZPosition(int zPosition) {
    }

    public void setTPosition(int tPosition) {
    }
}
