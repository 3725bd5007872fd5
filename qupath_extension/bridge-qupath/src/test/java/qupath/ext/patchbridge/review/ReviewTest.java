package qupath.ext.patchbridge.review;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ReviewTest {

    private static final class Tile implements ReviewTile {
        private final UUID id;
        private final double margin;
        private Map<String, Double> hard = Map.of();
        private String label;
        private Word word = Word.NONE;

        Tile(int number, String label, double margin) {
            this.id = new UUID(1, number);
            this.label = label;
            this.margin = margin;
        }

        @Override
        public UUID id() {
            return id;
        }

        @Override
        public String label() {
            return label;
        }

        @Override
        public Word word() {
            return word;
        }

        @Override
        public double margin() {
            return margin;
        }

        @Override
        public double hardPlace(String predictions) {
            return hard.getOrDefault(predictions, Double.NaN);
        }

        @Override
        public List<String> hardLists() {
            return List.copyOf(hard.keySet());
        }

        @Override
        public void set(String to, Word now) {
            label = to;
            word = now;
        }
    }

    private final Tile first = new Tile(1, "Tumour", 0.9);
    private final Tile second = new Tile(2, "Stroma", 0.1);
    private final Tile third = new Tile(3, "Tumour", Double.NaN);
    private final Tile fourth = new Tile(4, null, 0.5);
    private String reviewer = "Ann";
    private final Review review = new Review(() -> reviewer);

    @BeforeEach
    void load() {
        review.load(List.of(first, second, third, fourth));
        review.choose(Review.Order.ALL, null);
    }

    private List<ReviewTile> walk() {
        List<ReviewTile> walk = new ArrayList<>();
        for (int number = 0; number < review.size(); number++) {
            walk.add(review.current().orElseThrow());
            review.next();
        }
        return walk;
    }

    @Test
    void walksThroughAllInTheirOrder() {
        assertEquals(List.of(first, second, third, fourth), walk());
    }

    @Test
    void walksThroughOneLabelOrNone() {
        review.choose(Review.Order.LABEL, "Tumour");
        assertEquals(List.of(first, third), walk());
        review.choose(Review.Order.LABEL, null);
        assertEquals(List.of(fourth), walk());
    }

    @Test
    void showsTheLeastCertainFirstAndUnknownOnesLast() {
        review.choose(Review.Order.LOWEST_MARGIN, null);
        assertEquals(List.of(second, fourth, first, third), walk());
    }

    @Test
    void walksThroughTheHardOnesOfOnePrediction() {
        first.hard = Map.of("cnn", 3.0);
        third.hard = Map.of("cnn", 1.0, "mil", 2.0);
        fourth.hard = Map.of("mil", 1.0);
        review.choose(Review.Order.HARD, "cnn");
        assertEquals(List.of(third, first), walk());
        review.choose(Review.Order.HARD, "mil");
        assertEquals(List.of(fourth, third), walk());
        review.choose(Review.Order.HARD, "gone");
        assertEquals(List.of(), walk());
    }

    @Test
    void confirmingMarksAndKeepsTheClass() {
        review.confirm();
        assertEquals("Tumour", first.label);
        assertTrue(first.isReviewed());
        assertEquals(2, review.number());
        assertEquals(1, review.reviewed());
    }

    @Test
    void givingAClassMarksAndGoesOn() {
        review.give("Stroma");
        assertEquals("Stroma", first.label);
        assertTrue(first.isReviewed());
        assertEquals(second, review.current().orElseThrow());
    }

    @Test
    void correctedAreThoseWithAnotherClassThanTheShownOne() {
        review.confirm();
        review.give("Tumour");
        review.choose(Review.Order.CORRECTED, null);
        assertEquals(List.of(second), walk());
    }

    @Test
    void correctionsOfAnEarlierDayAreFoundByTheirMark() {
        third.set("Necrosis", Word.NONE.with("Ann", "Necrosis"));
        Review another = new Review(() -> null);
        another.load(List.of(first, third));
        another.choose(Review.Order.CORRECTED, null);
        assertEquals(third, another.current().orElseThrow());
    }

    @Test
    void undoTakesClassAndMarkAwayAndGoesBack() {
        review.next();
        review.give("Tumour");
        review.next();
        assertEquals(second, review.undo().orElseThrow());
        assertEquals("Stroma", second.label);
        assertFalse(second.isReviewed());
        assertEquals(2, review.number());
        assertFalse(review.canUndo());
    }

    @Test
    void undoOfASecondStatementGivesTheFirstBack() {
        review.give("Stroma");
        review.previous();
        review.give("Necrosis");
        review.undo();
        assertEquals("Stroma", first.label);
        assertTrue(first.isReviewed());
    }

    @Test
    void theWordOfEachPersonIsKept() {
        review.confirm();
        reviewer = "Bob";
        review.previous();
        review.confirm();
        assertEquals(Map.of("Ann", "Tumour", "Bob", "Tumour"), first.word.said());
        review.previous();
        review.give(null);
        assertEquals(Map.of("Ann", "Tumour", "Bob", ""), first.word.said());
        review.undo();
        review.undo();
        assertEquals(Map.of("Ann", "Tumour"), first.word.said());
    }

    @Test
    void aPersonWithoutANameLeavesTheMarkAlone() {
        reviewer = null;
        review.give("Stroma");
        assertEquals(new Word(true, Map.of()), first.word);
    }

    @Test
    void theLastPatchStaysCurrent() {
        for (int turn = 0; turn < 9; turn++) {
            review.confirm();
        }
        assertEquals(4, review.number());
        assertEquals(4, review.reviewed());
        review.previous();
        assertEquals(3, review.number());
    }

    @Test
    void patchesThatWentAreLeftOutAndTheCurrentOneStays() {
        review.give("Stroma");
        review.next();
        review.load(List.of(second, third, fourth));
        assertEquals(third, review.current().orElseThrow());
        assertEquals(3, review.size());
        assertFalse(review.canUndo());
    }

    @Test
    void withoutPatchesNothingHappens() {
        Review empty = new Review(() -> null);
        empty.load(List.of());
        empty.choose(Review.Order.ALL, null);
        assertTrue(empty.confirm().isEmpty());
        assertTrue(empty.undo().isEmpty());
        empty.next();
        assertEquals(0, empty.number());
    }

    @Test
    void walksThroughWhatIsNotReviewedYet() {
        second.word = Word.NONE.with("Ann", "Stroma");
        review.choose(Review.Order.NOT_REVIEWED, null);
        assertEquals(List.of(first, third, fourth), walk());
        review.choose(Review.Order.NOT_REVIEWED, null);
        review.confirm();  // stays in this walk, so that a person can go back to it
        assertEquals(3, review.size());
        assertEquals(third, review.current().orElseThrow());
        assertEquals(1, review.reviewed());
    }

    @Test
    void whatOnePersonReviewedComesToTheNext() {
        second.word = Word.NONE.with("Ann", "Stroma");
        third.word = Word.NONE.with(null, "Tumour");
        reviewer = "Bob";
        assertEquals(1, review.reviewed());  // nobody knows who said it
        review.choose(Review.Order.NOT_REVIEWED, null);
        assertEquals(List.of(first, second, fourth), walk());
        reviewer = null;
        review.choose(Review.Order.NOT_REVIEWED, null);
        assertEquals(List.of(first, fourth), walk());
    }

    @Test
    void followsTheImageToAPatch() {
        assertTrue(review.visit(third.id()));
        assertEquals(3, review.number());
        review.give("Stroma");
        assertEquals("Stroma", third.label());
        assertEquals(fourth, review.current().orElseThrow());
    }

    @Test
    void aPatchThatWasNotChosenComesInAfterTheCurrentOne() {
        review.choose(Review.Order.LABEL, "Tumour");
        assertTrue(review.visit(second.id()));
        assertEquals(2, review.number());
        assertEquals(3, review.size());
        assertEquals(second, review.current().orElseThrow());
        review.next();
        assertEquals(third, review.current().orElseThrow());
    }

    @Test
    void aPatchThatIsNotThereChangesNothing() {
        assertFalse(review.visit(new UUID(7, 7)));
        assertEquals(1, review.number());
        assertEquals(4, review.size());
    }

    @Test
    void aPatchCanBeVisitedInAnEmptyWalk() {
        review.choose(Review.Order.CORRECTED, null);
        assertEquals(0, review.size());
        assertTrue(review.visit(second.id()));
        assertEquals(second, review.current().orElseThrow());
    }
}
