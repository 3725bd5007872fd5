package qupath.lib.scripting;

import java.awt.image.BufferedImage;
import qupath.lib.images.ImageData;
import qupath.lib.projects.Project;

public class QP {

    private QP() {
    }

    public static ImageData<BufferedImage> getCurrentImageData() {
        return null;
    }

    public static Project<BufferedImage> getProject() {
        return null;
    }
}
