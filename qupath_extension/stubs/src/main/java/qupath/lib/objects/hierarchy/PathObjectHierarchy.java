package qupath.lib.objects.hierarchy;

import java.util.Collection;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

public class PathObjectHierarchy {

    private PathObjectHierarchy() {
    }

    public Collection<PathObject> getTileObjects() {
        return null;
    }

    public Collection<PathObject> getAnnotationObjects() {
        return null;
    }

    public boolean addObjects(Collection<? extends PathObject> pathObjects) {
        return false;
    }

    public void removeObjects(Collection<? extends PathObject> pathObjects, boolean keepChildren) {
    }

    public void fireObjectClassificationsChangedEvent(
            Object source, Collection<? extends PathObject> pathObjects) {
    }

    public PathObjectSelectionModel getSelectionModel() {
        return null;
    }

    public void addListener(PathObjectHierarchyListener listener) {
    }

    public void removeListener(PathObjectHierarchyListener listener) {
    }
}
