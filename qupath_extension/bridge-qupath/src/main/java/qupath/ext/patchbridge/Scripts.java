package qupath.ext.patchbridge;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Strings;
import qupath.ext.patchbridge.ui.ErrorWindow;
import qupath.lib.gui.QuPathGUI;

/** The Groovy scripts that do the same as the menu; the jar carries them. */
final class Scripts {

    /** Their names, in the order of the menu. */
    static final List<String> NAMES = List.of("check_setup", "export_patches",
            "import_provenance", "remove_patches", "collect_corrections");

    private Scripts() {
    }

    /** Opens a script in the editor as a new script, so that a change never gets lost in the jar. */
    static void open(QuPathGUI qupath, String name) {
        try {
            qupath.getScriptEditor().showScript(name + ".groovy", text(name));
        } catch (IOException error) {
            ErrorWindow.show(qupath.getStage(), new BridgeException("IOException",
                    Strings.get("scripts.missing", name), Strings.get("scripts.missing.hint"),
                    error.toString()));
        }
    }

    /**
     * Returns the text of a script.
     *
     * @throws IOException if the jar does not carry it
     */
    static String text(String name) throws IOException {
        try (InputStream stream = Scripts.class.getResourceAsStream("scripts/" + name + ".groovy")) {
            if (stream == null) {
                throw new IOException(name + ".groovy is not in the jar");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
