package qupath.lib.io;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import qupath.lib.objects.PathObject;

public class PathIO {

    private PathIO() {
    }

    public enum GeoJsonExportOptions {
        PRETTY_JSON, EXCLUDE_MEASUREMENTS, FEATURE_COLLECTION
    }

    public static List<PathObject> readObjects(Path path) throws IOException {
        return null;
    }

    public static void exportObjectsAsGeoJSON(
            Path path, Collection<? extends PathObject> pathObjects, GeoJsonExportOptions... options) throws IOException {
    }
}
