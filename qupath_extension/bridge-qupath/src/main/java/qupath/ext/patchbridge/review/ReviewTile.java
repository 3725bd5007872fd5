package qupath.ext.patchbridge.review;

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

    /** Sets its class, and what people said. */
    void set(String label, Word word);
}
