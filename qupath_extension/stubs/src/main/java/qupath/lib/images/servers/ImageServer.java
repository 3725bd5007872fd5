package qupath.lib.images.servers;

public interface ImageServer<T> {

    default PixelCalibration getPixelCalibration() {
        return null;
    }

    int getWidth();

    int getHeight();
}
