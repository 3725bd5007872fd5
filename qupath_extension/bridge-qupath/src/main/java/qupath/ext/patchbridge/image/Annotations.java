package qupath.ext.patchbridge.image;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

import qupath.lib.io.GsonTools;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathObject;

/** The annotations of an image as they are on screen, saved or not. */
public final class Annotations {

    private Annotations() {
    }

    /** Returns the annotations that are on screen now. Call it in JavaFX's thread. */
    public static List<PathObject> onScreen(OpenImage image) {
        return List.copyOf(image.data().getHierarchy().getAnnotationObjects());
    }

    /**
     * Writes objects as GeoJSON, as Python reads them.
     *
     * @throws IOException if the file cannot be written
     */
    public static void write(Collection<PathObject> objects, Path file) throws IOException {
        PathIO.exportObjectsAsGeoJSON(file, objects,
                PathIO.GeoJsonExportOptions.FEATURE_COLLECTION);
    }

    /**
     * Tells whether annotations differ from those that are saved. Reads the image's data: takes a
     * while, so call it in the background.
     *
     * @param image the image
     * @param onScreen its annotations
     * @throws IOException if the saved data cannot be read
     */
    public static boolean differ(OpenImage image, Collection<PathObject> onScreen)
            throws IOException {
        if (!image.data().isChanged()) {
            return false;  // QuPath itself knows of no change
        }
        if (!image.entry().hasImageData()) {
            return !onScreen.isEmpty();
        }
        return !texts(onScreen).equals(
                texts(image.entry().readHierarchy().getAnnotationObjects()));
    }

    private static Set<String> texts(Collection<PathObject> objects) {
        Set<String> texts = new HashSet<>();
        objects.forEach(each -> texts.add(GsonTools.getInstance().toJson(each)));
        return texts;
    }
}
