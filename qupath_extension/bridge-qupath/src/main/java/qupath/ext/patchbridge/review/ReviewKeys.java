package qupath.ext.patchbridge.review;

import java.time.Duration;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;

import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;

import qupath.lib.objects.classes.PathClass;

/** What keys mean in a review: in its window, and over the image. */
final class ReviewKeys {

    /** Number of classes that have a key. */
    static final int CLASSES = 9;

    /** Time after which a key that is held down is pressed again at the latest. */
    private static final Duration REPEAT = Duration.ofMillis(1500);

    private final ReviewPane.Actions actions;
    private final Map<KeyCode, Long> held = new EnumMap<>(KeyCode.class);
    private List<PathClass> classes = List.of();

    ReviewKeys(ReviewPane.Actions actions) {
        this.actions = actions;
    }

    /** Sets the classes of the keys from 1. */
    void setClasses(List<PathClass> ordinary) {
        classes = ordinary.subList(0, Math.min(CLASSES, ordinary.size()));
    }

    /** Returns the classes of the keys from 1. */
    List<PathClass> classes() {
        return classes;
    }

    /** Does what a key says that is pressed in the window. */
    void inWindow(KeyEvent event) {
        if (event.getEventType() == KeyEvent.KEY_PRESSED && move(event)) {
            event.consume();
        } else {
            overImage(event, () -> true);
        }
    }

    /**
     * Does what a key says over the image, so that QuPath does not do something else. Keys that move
     * the image stay QuPath's. A key that is held down says the same only once: each time would be
     * about another patch.
     *
     * @param event of a key that is pressed, typed or released
     * @param isPatchSelected whether the image shows a patch as selected: else it is about something
     *     else that a person selected
     */
    void overImage(KeyEvent event, BooleanSupplier isPatchSelected) {
        if (event.getEventType() == KeyEvent.KEY_RELEASED) {
            if (held.remove(event.getCode()) != null) {
                event.consume();  // QuPath 0.5 deletes when the key is released
            }
        } else if (event.getEventType() == KeyEvent.KEY_TYPED) {
            if (!held.isEmpty()) {
                event.consume();
            }
        } else if (isHeld(event.getCode())
                || isPatchSelected.getAsBoolean() && state(event)) {
            held.put(event.getCode(), System.nanoTime());
            event.consume();
        }
    }

    /** Tells whether a key was not released since it was pressed. */
    private boolean isHeld(KeyCode code) {
        Long last = held.get(code);  // another window may have got its release
        return last != null && System.nanoTime() - last < REPEAT.toNanos();
    }

    private boolean state(KeyEvent event) {
        if (event.getCode() == KeyCode.Z && event.isShortcutDown() && !event.isShiftDown()) {
            actions.undo();
            return true;
        }
        if (event.isShortcutDown() || event.isAltDown()) {
            return false;
        }
        switch (event.getCode()) {
            case ENTER -> actions.confirm();
            case DELETE, BACK_SPACE -> actions.reject();
            default -> {
                return giveByNumber(event.getCode());
            }
        }
        return true;
    }

    private boolean giveByNumber(KeyCode code) {
        if (!code.isDigitKey()) {
            return false;
        }
        String name = code.getName();  // "1", or "Numpad 1"
        int number = name.charAt(name.length() - 1) - '0';
        if (number >= 1 && number <= classes.size()) {
            actions.give(classes.get(number - 1).toString());
        }
        return true;  // else QuPath would show another channel, in the middle of a review
    }

    private boolean move(KeyEvent event) {
        if (event.isShortcutDown() || event.isAltDown()) {
            return false;
        }
        switch (event.getCode()) {
            case RIGHT, SPACE -> actions.next();
            case LEFT -> actions.previous();
            default -> {
                return false;
            }
        }
        return true;
    }
}
