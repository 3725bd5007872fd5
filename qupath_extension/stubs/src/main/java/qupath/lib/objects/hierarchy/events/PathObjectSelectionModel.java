package qupath.lib.objects.hierarchy.events;

public class PathObjectSelectionModel {

    private PathObjectSelectionModel() {
    }

    public synchronized void addPathObjectSelectionListener(PathObjectSelectionListener listener) {
    }

    public synchronized void removePathObjectSelectionListener(
            PathObjectSelectionListener listener) {
    }
}
