package qupath.lib.objects;

import java.util.Map;
import java.util.UUID;
import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

public abstract class PathObject {

    public UUID getID() {
        return null;
    }

    public String getName() {
        return null;
    }

    public abstract PathClass getPathClass();

    public void setPathClass(PathClass pc) {
    }

    public abstract ROI getROI();

    public Map<String, String> getMetadata() {
        return null;
    }

    public MeasurementList getMeasurementList() {
        return null;
    }
}
