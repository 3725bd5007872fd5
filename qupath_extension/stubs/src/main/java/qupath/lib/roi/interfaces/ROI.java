package qupath.lib.roi.interfaces;

public interface ROI {

    double getCentroidX();

    double getCentroidY();

    double getBoundsX();

    double getBoundsY();

    double getBoundsWidth();

    double getBoundsHeight();

    int getZ();

    int getT();
}
