package qupath.ext.patchbridge.image;

import java.util.List;

import qupath.lib.gui.QuPathGUI;
import qupath.lib.objects.classes.PathClass;

/** The classes of the project, as QuPath lists them. */
public final class Classes {

    private static final String SPECIAL = "*";  // QuPath's mark of classes such as Ignore*

    private Classes() {
    }

    /** Returns all classes of the list but the empty one. */
    public static List<PathClass> all(QuPathGUI qupath) {
        return qupath.getAvailablePathClasses().stream()
                .filter(each -> each != null && each != PathClass.getNullClass()).toList();
    }

    /** Returns the classes that can be labels. */
    public static List<PathClass> ordinary(QuPathGUI qupath) {
        return all(qupath).stream().filter(each -> !each.toString().endsWith(SPECIAL)).toList();
    }
}
