package qupath.ext.patchbridge.review;

import java.util.UUID;

import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** A tile object of QuPath in a review. */
final class TileObject implements ReviewTile {

    /** Measurement that marks a tile that a person handled; Python reads it. */
    static final String MARK = "qb: reviewed";

    private static final String MARGIN = "qb: margin";

    private final PathObject object;

    TileObject(PathObject object) {
        this.object = object;
    }

    /** Returns QuPath's object. */
    PathObject object() {
        return object;
    }

    @Override
    public UUID id() {
        return object.getID();
    }

    @Override
    public String label() {
        PathClass label = object.getPathClass();
        return label == null || label == PathClass.getNullClass() ? null : label.toString();
    }

    @Override
    public boolean isReviewed() {
        return object.getMeasurementList().get(MARK) == 1;
    }

    @Override
    public double margin() {
        return object.getMeasurementList().get(MARGIN);
    }

    @Override
    public void set(String label, boolean reviewed) {
        object.setPathClass(label == null ? null : PathClass.fromString(label));
        MeasurementList measurements = object.getMeasurementList();
        if (reviewed) {
            measurements.put(MARK, 1);
        } else if (isReviewed()) {
            measurements.remove(MARK);
        }
    }
}
