package qupath.ext.patchbridge.review;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import javafx.event.EventType;
import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;
import org.junit.jupiter.api.Test;

class ReviewKeysTest {

    private final List<String> done = new ArrayList<>();
    private final ReviewKeys keys = new ReviewKeys(new ReviewPane.Actions() {
        @Override
        public void choose(Review.Order order, String label) {
            done.add("choose");
        }

        @Override
        public void confirm() {
            done.add("confirm");
        }

        @Override
        public void give(String label) {
            done.add(label);
        }

        @Override
        public void reject() {
            done.add("reject");
        }

        @Override
        public void undo() {
            done.add("undo");
        }

        @Override
        public void next() {
            done.add("next");
        }

        @Override
        public void previous() {
            done.add("previous");
        }

        @Override
        public void reviewer(String name) {
            done.add("reviewer");
        }
    });

    private static KeyEvent event(EventType<KeyEvent> type, KeyCode code, boolean control) {
        return new KeyEvent(type, "", "", code, false, control, false, control);  // Mac has its own
    }

    private boolean overImage(EventType<KeyEvent> type, KeyCode code, boolean isSelected) {
        KeyEvent event = event(type, code, false);
        keys.overImage(event, () -> isSelected);
        return event.isConsumed();
    }

    @Test
    void saysTheSameOverTheImageAndInTheWindow() {
        for (KeyCode code : List.of(KeyCode.ENTER, KeyCode.DELETE, KeyCode.BACK_SPACE)) {
            keys.inWindow(event(KeyEvent.KEY_PRESSED, code, false));
            keys.inWindow(event(KeyEvent.KEY_RELEASED, code, false));
            assertTrue(overImage(KeyEvent.KEY_PRESSED, code, true));
            assertTrue(overImage(KeyEvent.KEY_RELEASED, code, true));
        }
        assertEquals(List.of("confirm", "confirm", "reject", "reject", "reject", "reject"), done);
    }

    @Test
    void quPathSeesNothingOfAKeyThatWasTaken() {
        assertTrue(overImage(KeyEvent.KEY_PRESSED, KeyCode.DELETE, true));
        assertTrue(overImage(KeyEvent.KEY_TYPED, KeyCode.UNDEFINED, true));
        // The next patch may be none by now.
        assertTrue(overImage(KeyEvent.KEY_RELEASED, KeyCode.DELETE, false));
        assertFalse(overImage(KeyEvent.KEY_RELEASED, KeyCode.DELETE, true));
        assertFalse(overImage(KeyEvent.KEY_TYPED, KeyCode.UNDEFINED, true));
        assertEquals(List.of("reject"), done);
    }

    @Test
    void keysBelongToQuPathIfSomethingElseIsSelected() {
        assertFalse(overImage(KeyEvent.KEY_PRESSED, KeyCode.DELETE, false));
        assertFalse(overImage(KeyEvent.KEY_RELEASED, KeyCode.DELETE, false));
        assertEquals(List.of(), done);
    }

    @Test
    void arrowsMoveTheImageThereAndThePatchHere() {
        assertFalse(overImage(KeyEvent.KEY_PRESSED, KeyCode.RIGHT, true));
        assertFalse(overImage(KeyEvent.KEY_PRESSED, KeyCode.SPACE, true));
        assertEquals(List.of(), done);
        keys.inWindow(event(KeyEvent.KEY_PRESSED, KeyCode.RIGHT, false));
        keys.inWindow(event(KeyEvent.KEY_PRESSED, KeyCode.LEFT, false));
        assertEquals(List.of("next", "previous"), done);
    }

    @Test
    void otherShortcutsStayQuPaths() {
        KeyEvent save = event(KeyEvent.KEY_PRESSED, KeyCode.ENTER, true);
        keys.overImage(save, () -> true);
        assertFalse(save.isConsumed());
        assertEquals(List.of(), done);
    }

    @Test
    void aNumberWithoutAClassDoesNothing() {
        assertTrue(overImage(KeyEvent.KEY_PRESSED, KeyCode.DIGIT1, true));
        assertEquals(List.of(), done);
    }

    @Test
    void aKeyThatIsHeldDownSaysItOnce() {
        for (int repeat = 0; repeat < 5; repeat++) {
            assertTrue(overImage(KeyEvent.KEY_PRESSED, KeyCode.DELETE, true));
            keys.inWindow(event(KeyEvent.KEY_PRESSED, KeyCode.RIGHT, false));
        }
        assertEquals(1, done.stream().filter("reject"::equals).count());
        assertEquals(5, done.stream().filter("next"::equals).count());
        overImage(KeyEvent.KEY_RELEASED, KeyCode.DELETE, true);
        overImage(KeyEvent.KEY_PRESSED, KeyCode.DELETE, true);
        assertEquals(2, done.stream().filter("reject"::equals).count());
    }
}
