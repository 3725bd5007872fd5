package qupath.ext.patchbridge.tiles;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.image.OurTiles;
import qupath.lib.objects.PathObject;

/**
 * The runs whose patches an image shows now, each with its tiles by class.
 *
 * <p>QuPath 0.5 drops what says the run of a tile: then it can be any.
 */
final class ShownRuns {

    private final Map<String, Map<String, Long>> counts;
    private final boolean canBeAny;

    private ShownRuns(Map<String, Map<String, Long>> counts, boolean canBeAny) {
        this.counts = counts;
        this.canBeAny = canBeAny;
    }

    /** Counts tiles. */
    static ShownRuns of(Collection<PathObject> tiles) {
        boolean canBeAny = tiles.stream().anyMatch(tile -> OurTiles.run(tile).isEmpty());
        return new ShownRuns(tiles.stream().filter(tile -> OurTiles.run(tile).isPresent())
                .collect(Collectors.groupingBy(tile -> OurTiles.run(tile).orElseThrow(),
                        TreeMap::new, Collectors.groupingBy(ShownRuns::label, TreeMap::new,
                                Collectors.counting()))), canBeAny);
    }

    private static String label(PathObject tile) {
        return tile.getPathClass() == null ? Strings.get("review.no-class")
                : tile.getPathClass().toString();
    }

    /**
     * Returns those of some runs that are shown, with the number of their tiles now, or that may be
     * shown; then those that are shown and of which the project has no record.
     */
    List<Run> among(List<Run> runs) {
        List<Run> shown = new ArrayList<>();
        runs.stream().filter(run -> canBeAny || counts.containsKey(run.id())).forEach(run -> shown.add(
                counts.containsKey(run.id()) ? run.withCounts(counts.get(run.id())) : run));
        List<String> known = runs.stream().map(Run::id).toList();
        counts.forEach((id, classes) -> {
            if (!known.contains(id)) {
                shown.add(Run.unknown(id).withCounts(classes));
            }
        });
        return List.copyOf(shown);
    }
}
