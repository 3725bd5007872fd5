package qupath.ext.patchbridge.review;

import java.util.List;

import javafx.geometry.Insets;
import javafx.scene.Node;
import javafx.scene.control.Button;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyEvent;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.scene.paint.Color;
import javafx.scene.shape.Rectangle;
import javafx.util.StringConverter;

import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.Windows;
import qupath.lib.objects.classes.PathClass;

/** What the review panel shows, and its keys. */
final class ReviewPane extends VBox {

    private static final double WIDTH = 300;
    private static final double SWATCH = 12;

    /** What a person can do. */
    interface Actions {
        /** Chooses which patches come. */
        void choose(Review.Order order, String label);

        /** Confirms the class that is shown. */
        void confirm();

        /** Gives another class. */
        void give(String label);

        /** Rejects the patch. */
        void reject();

        /** Takes the last statement back. */
        void undo();

        /** Goes on without a statement. */
        void next();

        /** Goes back without a statement. */
        void previous();

        /** Sets the reviewer's name. */
        void reviewer(String name);
    }

    /** A choice of the list: an order, and the label or the predictions that it is about. */
    private record Choice(Review.Order order, String label) {
    }

    private final Actions actions;
    private final ComboBox<Choice> order = new ComboBox<>();
    private final Label counter = new Label();
    private final Label current = new Label();
    private final GridPane legend = new GridPane();
    private final ReviewKeys keys;
    private final Button undo;

    ReviewPane(Actions actions, String reviewer) {
        super(10);
        this.actions = actions;
        this.keys = new ReviewKeys(actions);
        this.undo = button("review.undo", "undo", actions::undo);
        order.setId("patch-bridge-order");
        order.setMaxWidth(Double.MAX_VALUE);
        order.setConverter(converter());
        order.setOnAction(event -> {
            Choice choice = order.getValue();
            if (choice != null) {
                actions.choose(choice.order(), choice.label());
                requestFocus();
            }
        });
        counter.setId("patch-bridge-counter");
        current.setId("patch-bridge-current");
        current.setStyle("-fx-font-weight: bold; -fx-font-size: 1.2em;");
        legend.setHgap(8);
        legend.setVgap(4);
        setPadding(new Insets(14));
        setPrefWidth(WIDTH);
        setFocusTraversable(true);
        getChildren().setAll(order, counter, current, legend,
                new HBox(6, button("review.confirm", "confirm", actions::confirm),
                        button("review.reject", "reject", actions::reject)),
                new HBox(6, undo, button("review.previous", "previous", actions::previous),
                        button("review.next", "next", actions::next)),
                Windows.wrapped(Strings.get("review.keys")), reviewerRow(reviewer));
    }

    private Node reviewerRow(String reviewer) {
        TextField field = new TextField(reviewer == null ? "" : reviewer);
        field.setId("patch-bridge-reviewer");
        field.textProperty().addListener((text, before, now) -> actions.reviewer(now));
        return new HBox(8, new Label(Strings.get("review.reviewer")), field);
    }

    private Button button(String key, String id, Runnable action) {
        Button button = new Button(Strings.get(key));
        button.setId("patch-bridge-" + id);
        button.setFocusTraversable(false);
        button.setOnAction(event -> {
            action.run();
            requestFocus();
        });
        return button;
    }

    /** Shows the classes that have a key, and the labels and hard patches to choose from. */
    void showClasses(List<PathClass> ordinary, List<String> labels, List<String> hardLists) {
        keys.setClasses(ordinary);
        List<PathClass> classes = keys.classes();
        legend.getChildren().clear();
        for (int index = 0; index < classes.size(); index++) {
            PathClass each = classes.get(index);
            Integer rgb = each.getColor();
            Color color = rgb == null ? Color.GRAY
                    : Color.rgb((rgb >> 16) & 0xFF, (rgb >> 8) & 0xFF, rgb & 0xFF);
            legend.addRow(index, new Label(String.valueOf(index + 1)),
                    new Rectangle(SWATCH, SWATCH, color), new Label(each.toString()));
        }
        order.getItems().setAll(new Choice(Review.Order.ALL, null),
                new Choice(Review.Order.NOT_REVIEWED, null),
                new Choice(Review.Order.LOWEST_MARGIN, null),
                new Choice(Review.Order.CORRECTED, null));
        hardLists.forEach(name -> order.getItems().add(new Choice(Review.Order.HARD, name)));
        labels.forEach(label -> order.getItems().add(new Choice(Review.Order.LABEL, label)));
        order.setValue(order.getItems().get(0));
        requestFocus();
    }

    /** Shows where the review is. */
    void show(Review review) {
        counter.setText(Strings.get("review.counter", review.number(), review.size(),
                review.reviewed()));
        current.setText(review.current().map(ReviewPane::words)
                .orElse(Strings.get("review.nothing")));
        undo.setDisable(!review.canUndo());
    }

    private static String words(ReviewTile tile) {
        String label = tile.label() == null ? Strings.get("review.no-class") : tile.label();
        return tile.isReviewed() ? Strings.get("review.reviewed", label) : label;
    }

    /** Does what a key says, unless somebody writes a text. */
    void onKey(KeyEvent event) {
        if (!(event.getTarget() instanceof TextField)) {
            keys.inWindow(event);
        } else if (event.getCode() == KeyCode.ENTER && event.getEventType() == KeyEvent.KEY_PRESSED) {
            requestFocus();
            event.consume();
        }
    }

    /** Returns what the keys mean. */
    ReviewKeys keys() {
        return keys;
    }

    private static StringConverter<Choice> converter() {
        return new StringConverter<>() {
            @Override
            public String toString(Choice choice) {
                return choice == null ? ""
                        : Strings.get("review.order." + choice.order().word(), choice.label());
            }

            @Override
            public Choice fromString(String text) {
                throw new UnsupportedOperationException();
            }
        };
    }
}
