package qupath.lib.objects.hierarchy.events;

public class PathObjectHierarchyEvent {

    private PathObjectHierarchyEvent() {
    }

    public Object getSource() {
        return null;
    }

    public boolean isChanging() {
        return false;
    }

    public boolean isStructureChangeEvent() {
        return false;
    }
}
