package qupath.lib.images.servers;

public interface ImageServer<T> {

    PixelCalibration getPixelCalibration();

    int getWidth();

    int getHeight();
}
