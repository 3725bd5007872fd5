package qupath.ext.patchbridge.review;

import java.util.Map;
import java.util.TreeMap;

/**
 * What people said about a patch in the review.
 *
 * @param reviewed whether a person handled it
 * @param said the class that each person with a name gave it last or confirmed, by name; an empty
 *     text for no class
 */
record Word(boolean reviewed, Map<String, String> said) {

    /** Of a patch that nobody handled. */
    static final Word NONE = new Word(false, Map.of());

    Word {
        said = Map.copyOf(said);
    }

    /**
     * Tells whether a person handled the patch. What was said without a name counts for everybody.
     *
     * @param reviewer the name of the person; null if nobody knows it
     */
    boolean isReviewedBy(String reviewer) {
        return reviewed && (reviewer == null || said.isEmpty() || said.containsKey(reviewer));
    }

    /** Returns this, and that a person gave it a class; the name is null if nobody knows it. */
    Word with(String reviewer, String label) {
        Map<String, String> all = new TreeMap<>(said);
        if (reviewer != null) {
            all.put(reviewer, label == null ? "" : label);
        }
        return new Word(true, all);
    }
}
