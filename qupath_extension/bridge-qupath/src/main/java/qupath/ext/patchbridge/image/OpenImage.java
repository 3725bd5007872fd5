package qupath.ext.patchbridge.image;

import java.awt.image.BufferedImage;
import java.nio.file.Path;

import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;

/**
 * An image of the project with its objects in memory.
 *
 * @param viewer the viewer that shows it; null in a script
 * @param data the image with its objects, as they are on screen
 * @param project the project
 * @param entry the image's entry in the project
 */
public record OpenImage(QuPathViewer viewer, ImageData<BufferedImage> data,
        Project<BufferedImage> project, ProjectImageEntry<BufferedImage> entry) {

    /** Returns the path of the project's file. */
    public Path projectFile() {
        return project.getPath();
    }

    /**
     * Returns a path in the project's folder; one that is absolute stays as it is.
     *
     * @throws java.nio.file.InvalidPathException if the text is no path
     */
    public Path inProject(String path) {
        Path typed = Path.of(path);
        return typed.isAbsolute() ? typed : projectFile().resolveSibling(typed).normalize();
    }

    /** Tells whether the viewer still shows this image. */
    public boolean isShown() {
        return viewer.getImageData() == data;
    }
}
