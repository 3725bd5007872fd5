package qupath.ext.patchbridge.image;

import java.util.List;
import java.util.Optional;

import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** Tiles that are patches of ours, and the run that each of them shows. */
public final class OurTiles {

    /** High half of the ids of our tiles, as Python makes them. */
    private static final long OURS = 0x9e0725bfe8af8f43L;

    /** Metadata of a tile with the id of its run; Python writes it. */
    private static final String RUN = "qb.run";

    private OurTiles() {
    }

    /** Tells whether an object is one of our patches; null is none. */
    public static boolean isOurs(PathObject object) {
        return object != null && object.getID().getMostSignificantBits() == OURS;
    }

    /** Returns our patches in an image. */
    public static List<PathObject> of(ImageData<?> data) {
        return data.getHierarchy().getTileObjects().stream().filter(OurTiles::isOurs).toList();
    }

    /** Returns the id of the run that a tile shows; empty if the tile does not say it. */
    public static Optional<String> run(PathObject tile) {
        return Optional.ofNullable(tile.getMetadata().get(RUN));
    }
}
