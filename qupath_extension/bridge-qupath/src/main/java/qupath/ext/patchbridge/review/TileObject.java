package qupath.ext.patchbridge.review;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

import qupath.lib.measurements.MeasurementList;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;

/** A tile object of QuPath in a review. */
final class TileObject implements ReviewTile {

    /** Measurement that marks a tile that a person handled; Python reads it. */
    static final String MARK = "qb: reviewed";

    /** Beginning of metadata with the word of a person, whose name follows; Python reads it. */
    static final String SAID = "qb.said ";

    private static final String MARGIN = "qb: margin";

    /** Beginning and end of the name of the measurement of hard patches; Python writes it. */
    private static final String PREDICTED = "qb pred ";
    private static final String HARD = ": hard";

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
    public Word word() {
        Map<String, String> said = new TreeMap<>();
        object.getMetadata().forEach((key, value) -> {
            if (key.startsWith(SAID)) {
                said.put(key.substring(SAID.length()), value);
            }
        });
        return new Word(object.getMeasurementList().get(MARK) == 1, said);
    }

    @Override
    public double margin() {
        return object.getMeasurementList().get(MARGIN);
    }

    @Override
    public double hardPlace(String predictions) {
        return object.getMeasurementList().get(PREDICTED + predictions + HARD);
    }

    @Override
    public List<String> hardLists() {
        return object.getMeasurementList().getMeasurementNames().stream()
                .filter(name -> name.startsWith(PREDICTED) && name.endsWith(HARD))
                .map(name -> name.substring(PREDICTED.length(), name.length() - HARD.length()))
                .filter(name -> !Double.isNaN(hardPlace(name))).toList();
    }

    @Override
    public void set(String label, Word word) {
        object.setPathClass(label == null ? null : PathClass.fromString(label));
        MeasurementList measurements = object.getMeasurementList();
        if (word.reviewed()) {
            measurements.put(MARK, 1);
        } else if (isReviewed()) {
            measurements.remove(MARK);
        }
        try {
            Map<String, String> metadata = object.getMetadata();
            metadata.keySet().removeIf(key -> key.startsWith(SAID));
            word.said().forEach((reviewer, said) -> metadata.put(SAID + reviewer, said));
        } catch (UnsupportedOperationException e) {
            // QuPath 0.5 keeps no metadata of tiles: who collects is the one who said it.
            return;
        }
    }
}
