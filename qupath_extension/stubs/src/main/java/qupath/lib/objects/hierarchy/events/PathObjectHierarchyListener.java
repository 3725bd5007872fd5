package qupath.lib.objects.hierarchy.events;

public interface PathObjectHierarchyListener {

    void hierarchyChanged(PathObjectHierarchyEvent event);
}
