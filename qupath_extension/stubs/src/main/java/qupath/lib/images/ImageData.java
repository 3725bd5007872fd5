package qupath.lib.images;

public class ImageData<T> {

    private ImageData() {
    }
}
