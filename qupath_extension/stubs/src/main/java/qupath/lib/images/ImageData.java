package qupath.lib.images;

import qupath.lib.images.servers.ImageServer;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.plugins.workflow.Workflow;

public class ImageData<T> {

    private ImageData() {
    }

    public PathObjectHierarchy getHierarchy() {
        return null;
    }

    public ImageServer<T> getServer() {
        return null;
    }

    public Workflow getHistoryWorkflow() {
        return null;
    }

    public boolean isChanged() {
        return false;
    }
}
