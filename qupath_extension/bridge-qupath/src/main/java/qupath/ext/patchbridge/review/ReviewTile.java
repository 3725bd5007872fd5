package qupath.ext.patchbridge.review;

import java.util.List;
import java.util.UUID;

/** A patch that can be reviewed. */
public interface ReviewTile {

    /** Returns the id of the tile. */
    UUID id();

    /** Returns the name of its class now; null for none. */
    String label();

    /** Returns what people said about it. */
    Word word();

    /** Tells whether a person handled it in the review. */
    default boolean isReviewed() {
        return word().reviewed();
    }

    /** Returns how far its label is ahead of the next one, from 0 to 1; NaN if nobody knows. */
    double margin();

    /**
     * Returns its place among the hard patches of predictions, from 1; NaN if it is none of them.
     *
     * @param predictions their name
     */
    double hardPlace(String predictions);

    /** Returns the names of the predictions of which it is a hard patch. */
    List<String> hardLists();

    /** Sets its class, and what people said. */
    void set(String label, Word word);
}
