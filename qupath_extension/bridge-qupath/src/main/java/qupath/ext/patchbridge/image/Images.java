package qupath.ext.patchbridge.image;

import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;

/** Finds the images of the project that are open. */
public final class Images {

    private Images() {
    }

    /** Returns the image of a viewer; empty if there is none, or if it is not of the project. */
    public static Optional<OpenImage> inViewer(QuPathGUI qupath, QuPathViewer viewer) {
        Project<BufferedImage> project = qupath.getProject();
        ImageData<BufferedImage> data = viewer == null ? null : viewer.getImageData();
        if (project == null || data == null) {
            return Optional.empty();
        }
        ProjectImageEntry<BufferedImage> entry = project.getEntry(data);
        return Optional.ofNullable(entry).map(of -> new OpenImage(viewer, data, project, of));
    }

    /** Returns all images of the project that are open in a viewer. */
    public static List<OpenImage> open(QuPathGUI qupath) {
        List<OpenImage> images = new ArrayList<>();
        for (QuPathViewer viewer : qupath.getAllViewers()) {
            inViewer(qupath, viewer).ifPresent(images::add);
        }
        return images;
    }
}
