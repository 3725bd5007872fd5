package qupath.lib.images.servers;

public class PixelCalibration {

    private PixelCalibration() {
    }

    public boolean hasPixelSizeMicrons() {
        return false;
    }

    public double getPixelWidthMicrons() {
        return 0;
    }

    public double getPixelHeightMicrons() {
        return 0;
    }
}
