package qupath.ext.patchbridge.core;

import java.util.Locale;
import java.util.ResourceBundle;

/** The texts of the whole extension, from one bundle: {@code qupath/ext/patchbridge/strings.properties}. */
public final class Strings {

    private static final ResourceBundle BUNDLE = ResourceBundle.getBundle("qupath.ext.patchbridge.strings");

    private Strings() {
    }

    /**
     * Returns a text.
     *
     * @param key of the bundle; a key that is not there is a fault of the extension
     * @param values for the text's {@code %s}, {@code %d} and {@code %,d}; numbers in the user's format
     */
    public static String get(String key, Object... values) {
        String text = BUNDLE.getString(key);
        return values.length == 0 ? text : String.format(Locale.getDefault(Locale.Category.FORMAT), text, values);
    }

    /** Returns words for a name that Python uses; the name itself if there are none. */
    public static String forName(String prefix, String name) {
        return BUNDLE.containsKey(prefix + name) ? BUNDLE.getString(prefix + name) : name.replace('_', ' ');
    }
}
