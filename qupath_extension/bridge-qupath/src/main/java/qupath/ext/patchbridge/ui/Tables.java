package qupath.ext.patchbridge.ui;

import java.util.function.Function;

import javafx.beans.property.ReadOnlyStringWrapper;
import javafx.scene.control.TableColumn;
import javafx.scene.control.TableView;

/** Columns of tables that show texts. */
public final class Tables {

    private Tables() {
    }

    /**
     * Adds a column.
     *
     * @param table the table
     * @param title of the column
     * @param width in pixels
     * @param text what a row shows
     */
    public static <T> void column(TableView<T> table, String title, double width,
            Function<T, ?> text) {
        TableColumn<T, String> column = new TableColumn<>(title);
        column.setPrefWidth(width);
        column.setCellValueFactory(cell ->
                new ReadOnlyStringWrapper(String.valueOf(text.apply(cell.getValue()))));
        table.getColumns().add(column);
    }
}
