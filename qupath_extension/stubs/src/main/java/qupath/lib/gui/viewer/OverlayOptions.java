package qupath.lib.gui.viewer;

public class OverlayOptions {

    private OverlayOptions() {
    }

    public boolean getFillDetections() {
        return false;
    }

    public void setFillDetections(boolean fill) {
    }

    public boolean getShowDetections() {
        return false;
    }

    public void setShowDetections(boolean show) {
    }

    public boolean getShowNames() {
        return false;
    }

    public void setShowNames(boolean show) {
    }

    public float getOpacity() {
        return 0;
    }

    public void setOpacity(float opacity) {
    }
}
