package qupath.ext.patchbridge.export;

import java.util.function.UnaryOperator;

import javafx.util.StringConverter;

/** Shows the values of a list that cannot be edited in other words. */
final class OneWay extends StringConverter<String> {

    private final UnaryOperator<String> words;

    OneWay(UnaryOperator<String> words) {
        this.words = words;
    }

    @Override
    public String toString(String value) {
        return value == null ? "" : words.apply(value);
    }

    @Override
    public String fromString(String text) {
        throw new UnsupportedOperationException();
    }
}
