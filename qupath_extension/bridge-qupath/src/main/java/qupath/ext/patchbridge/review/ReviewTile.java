package qupath.ext.patchbridge.review;

import java.util.UUID;

/** A patch that can be reviewed. */
public interface ReviewTile {

    /** Returns the id of the tile. */
    UUID id();

    /** Returns the name of its class now; null for none. */
    String label();

    /** Tells whether a person handled it in the review. */
    boolean isReviewed();

    /** Returns how far its label is ahead of the next one, from 0 to 1; NaN if nobody knows. */
    double margin();

    /** Sets class and mark. */
    void set(String label, boolean reviewed);
}
