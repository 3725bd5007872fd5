package qupath.ext.patchbridge.review;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.UUID;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/**
 * Walks through patches: which come, which is the current one, what was done and can be undone.
 *
 * <p>Knows nothing of QuPath's objects and of windows.
 */
public final class Review {

    /** Which patches come, and in which order. */
    public enum Order {
        ALL, NOT_REVIEWED, LABEL, LOWEST_MARGIN, HARD, CORRECTED;

        /** Returns the word for keys of texts. */
        String word() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    private record Step(UUID id, String label, Word word) {
    }

    private final Deque<Step> steps = new ArrayDeque<>();
    private Map<UUID, ReviewTile> tiles = Map.of();
    private Map<UUID, String> firstLabels = Map.of();
    private List<UUID> walk = List.of();
    private final Supplier<String> reviewer;
    private int position;

    /**
     * Makes a review.
     *
     * @param reviewer returns the name of the person; null if nobody knows it
     */
    public Review(Supplier<String> reviewer) {
        this.reviewer = reviewer;
    }

    /**
     * Takes the patches of an image, in the order in which they are walked through.
     *
     * <p>Called again when objects came or went: the current patch stays where it can. Labels that a
     * patch had when it was first seen without a mark count as uncorrected.
     */
    public void load(List<? extends ReviewTile> all) {
        tiles = all.stream().collect(Collectors.toMap(ReviewTile::id, Function.identity(),
                (first, second) -> first, java.util.LinkedHashMap::new));
        Map<UUID, String> labels = new java.util.HashMap<>(firstLabels);
        tiles.values().stream().filter(tile -> !tile.isReviewed())
                .forEach(tile -> labels.putIfAbsent(tile.id(), tile.label()));
        firstLabels = labels;
        steps.removeIf(step -> !tiles.containsKey(step.id()));
        UUID before = current().map(ReviewTile::id).orElse(null);
        walk = walk.stream().filter(tiles::containsKey).toList();
        position = Math.max(0, before == null ? position : walk.indexOf(before));
    }

    /**
     * Chooses the patches to walk through, and goes to the first one.
     *
     * @param order which, and in which order
     * @param label the label to choose, for {@link Order#LABEL}; null for patches without one; the
     *     name of the predictions, for {@link Order#HARD}
     */
    public void choose(Order order, String label) {
        List<ReviewTile> chosen = new ArrayList<>(tiles.values());
        switch (order) {
            case ALL -> { }
            case NOT_REVIEWED -> chosen.removeIf(this::isDone);
            case LABEL -> chosen.removeIf(tile -> !Objects.equals(tile.label(), label));
            case LOWEST_MARGIN -> chosen.sort(Comparator.comparingDouble(ReviewTile::margin));
            case HARD -> {
                chosen.removeIf(tile -> Double.isNaN(tile.hardPlace(label)));
                chosen.sort(Comparator.comparingDouble(tile -> tile.hardPlace(label)));
            }
            case CORRECTED -> chosen.removeIf(tile -> !isCorrected(tile));
        }
        walk = chosen.stream().map(ReviewTile::id).toList();
        position = 0;
    }

    /** Tells whether a person gave the patch another class than the one that was shown. */
    private boolean isCorrected(ReviewTile tile) {
        return tile.isReviewed() && (!firstLabels.containsKey(tile.id())
                || !Objects.equals(firstLabels.get(tile.id()), tile.label()));
    }

    /** Tells whether the person who reviews now handled the patch. */
    private boolean isDone(ReviewTile tile) {
        return tile.word().isReviewedBy(reviewer.get());
    }

    /** Returns the patch to look at; empty if there is none. */
    public Optional<ReviewTile> current() {
        return position < walk.size() ? Optional.ofNullable(tiles.get(walk.get(position)))
                : Optional.empty();
    }

    /** Returns the number of the current patch, from 1; 0 if there is none. */
    public int number() {
        return current().isPresent() ? position + 1 : 0;
    }

    /** Returns the number of patches to walk through. */
    public int size() {
        return walk.size();
    }

    /** Returns how many of them the person handled. */
    public int reviewed() {
        return (int) walk.stream().map(tiles::get).filter(this::isDone).count();
    }

    /** Goes to the next patch, if there is one. */
    public void next() {
        position = Math.min(position + 1, Math.max(0, walk.size() - 1));
    }

    /** Goes to the patch before, if there is one. */
    public void previous() {
        position = Math.max(0, position - 1);
    }

    /**
     * Goes to a patch that was chosen in the image. One that is not among those to walk through
     * comes in, after the current one.
     *
     * @return whether there is such a patch
     */
    public boolean visit(UUID id) {
        if (!tiles.containsKey(id)) {
            return false;
        }
        if (!walk.contains(id)) {
            List<UUID> longer = new ArrayList<>(walk);
            longer.add(Math.min(position + 1, walk.size()), id);
            walk = List.copyOf(longer);
        }
        position = walk.indexOf(id);
        return true;
    }

    /** Confirms the class of the current patch, and goes on; empty if there is no patch. */
    public Optional<ReviewTile> confirm() {
        return current().flatMap(tile -> give(tile.label()));
    }

    /** Gives the current patch a class, and goes on; empty if there is no patch. */
    public Optional<ReviewTile> give(String label) {
        Optional<ReviewTile> changed = current();
        changed.ifPresent(tile -> {
            steps.push(new Step(tile.id(), tile.label(), tile.word()));
            tile.set(label, tile.word().with(reviewer.get(), label));
            next();
        });
        return changed;
    }

    /** Takes the last statement back, and goes to its patch; empty if there is none. */
    public Optional<ReviewTile> undo() {
        if (steps.isEmpty()) {
            return Optional.empty();
        }
        Step step = steps.pop();
        ReviewTile tile = tiles.get(step.id());
        tile.set(step.label(), step.word());
        position = walk.contains(step.id()) ? walk.indexOf(step.id()) : position;
        return Optional.of(tile);
    }

    /** Tells whether there is something to undo. */
    public boolean canUndo() {
        return !steps.isEmpty();
    }
}
