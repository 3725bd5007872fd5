package qupath.ext.patchbridge.review;

import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;

import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;

import qupath.lib.objects.classes.PathClass;

/** What keys mean in a review: in its window, and over the image. */
final class ReviewKeys {

    /** Number of classes that have a key. */
    static final int CLASSES = 9;

    private final ReviewPane.Actions actions;
    private final Set<KeyCode> taken = EnumSet.noneOf(KeyCode.class);
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
        if (state(event) || move(event)) {
            event.consume();
        }
    }

    /**
     * Does what a key says over the image, so that QuPath does not do something else. Keys that move
     * the image stay QuPath's.
     *
     * @param event of a key that is pressed, typed or released
     * @param isPatchSelected whether the image shows a patch as selected: else it is about something
     *     else that a person selected
     */
    void overImage(KeyEvent event, BooleanSupplier isPatchSelected) {
        if (event.getEventType() == KeyEvent.KEY_RELEASED) {
            if (taken.remove(event.getCode())) {
                event.consume();  // QuPath 0.5 deletes when the key is released
            }
        } else if (event.getEventType() == KeyEvent.KEY_TYPED) {
            if (!taken.isEmpty()) {
                event.consume();
            }
        } else if (isPatchSelected.getAsBoolean() && state(event)) {
            taken.add(event.getCode());
            event.consume();
        }
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
        if (number < 1 || number > classes.size()) {
            return false;
        }
        actions.give(classes.get(number - 1).toString());
        return true;
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
