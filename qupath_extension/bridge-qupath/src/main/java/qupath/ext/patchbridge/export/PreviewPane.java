package qupath.ext.patchbridge.export;

import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

import javafx.scene.control.Label;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.VBox;
import javafx.scene.paint.Color;
import javafx.scene.shape.Rectangle;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.Windows;

/** Says how many patches an export would write: in all, per label, and why others are dropped. */
final class PreviewPane extends VBox {

    private static final double WIDTH = 270;
    private static final double SWATCH = 12;

    private final Label total = Windows.wrapped("");
    private final GridPane labels = new GridPane();
    private final Label notes = Windows.wrapped("");

    PreviewPane() {
        super(8);
        total.setId("patch-bridge-total");
        total.setStyle("-fx-font-weight: bold;");
        labels.setId("patch-bridge-labels");
        labels.setHgap(8);
        labels.setVgap(3);
        notes.setId("patch-bridge-notes");
        setPrefWidth(WIDTH);
        getChildren().setAll(total, labels, notes);
    }

    /** Says that a question is on its way; what stands there stays. */
    void asked() {
        total.setOpacity(0.5);
        if (total.getText().isEmpty()) {
            total.setText(Strings.get("preview.asked"));
        }
    }

    /**
     * Shows an answer.
     *
     * @param isFinal whether nothing follows
     * @param isEmpty whether the image has no annotations
     */
    void show(PreviewAnswer answer, boolean isFinal, boolean isEmpty) {
        total.setOpacity(1);
        String patches = Strings.get("preview.total", answer.total());
        total.setText(isFinal ? patches : patches + " " + Strings.get("preview.tissue-follows"));
        labels.getChildren().clear();
        int row = 0;
        for (PreviewAnswer.Label label : answer.labels()) {
            java.awt.Color color = label.color();
            labels.addRow(row++, new Rectangle(SWATCH, SWATCH,
                    Color.rgb(color.getRed(), color.getGreen(), color.getBlue())),
                    new Label(label.name()), new Label(Strings.get("preview.count", label.count())));
        }
        String empty = isEmpty ? Strings.get("preview.no-annotations") + "\n" : "";
        notes.setText(empty + notes(answer));
    }

    /** Shows why there is no answer. */
    void fail(BridgeException error) {
        total.setOpacity(1);
        total.setText(error.getMessage());
        labels.getChildren().clear();
        notes.setText(error.hint() == null ? "" : error.hint());
    }

    /** Shows one sentence. */
    void say(String text) {
        total.setOpacity(1);
        total.setText(text);
        labels.getChildren().clear();
        notes.setText("");
    }

    private static String notes(PreviewAnswer answer) {
        List<String> lines = new java.util.ArrayList<>();
        if (answer.mpp() != null) {
            lines.add(Strings.get("preview.mpp", answer.mpp()));
        }
        if (!answer.dropped().isEmpty()) {
            lines.add(Strings.get("preview.dropped", answer.dropped().entrySet().stream()
                    .map(PreviewPane::reason).collect(Collectors.joining(", "))));
        }
        if (answer.boxes().size() < answer.total()) {
            lines.add(Strings.get("preview.only-some", answer.boxes().size()));
        }
        lines.addAll(answer.warnings());
        return String.join("\n", lines);
    }

    private static String reason(Map.Entry<String, Integer> each) {
        return Strings.get("preview.reason", each.getValue(),
                Strings.forName("preview.reason.", each.getKey()));
    }
}
