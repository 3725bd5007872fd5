package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Says why a Python did not start, or ended without an answer. */
final class Ended {

    private Ended() {
    }

    /**
     * Checks that a path can be a Python before it is started.
     *
     * @throws BridgeException if it is missing, or a folder
     */
    static void checkProgram(Path python) throws BridgeException {
        if (Files.isDirectory(python)) {
            throw new BridgeException("PythonError", Strings.get("error.python.folder", python),
                    Strings.get("error.python.folder.hint",
                            PythonCommand.findInEnvironment(python).orElse(PythonCommand.inEnvironment(python))), null);
        }
        if (!Files.isRegularFile(python)) {
            throw new BridgeException("PythonError", Strings.get("error.python.missing", python),
                    Strings.get("error.python.hint"), null);
        }
    }

    /** Returns why a program could not be started. */
    static BridgeException notStarted(Path python, IOException cause) {
        return new BridgeException("PythonError", Strings.get("error.python.start", python, cause.getMessage()),
                Strings.get("error.python.hint"), null);
    }

    /** Returns why a program ended without an answer, from its status and its last words. */
    static BridgeException withoutAnswer(Path python, int status, LastWords words) {
        String text = words.text();
        if (text.contains("No module named qupath_bridge") || text.contains("No module named 'qupath_bridge'")) {
            return new BridgeException("PythonError", Strings.get("error.package.missing", python),
                    Strings.get("error.package.missing.hint", BridgeVersion.current()), text);
        }
        if (text.contains("No such command") && text.contains("request")) {
            return new BridgeException("VersionError", Strings.get("error.package.old", python),
                    Strings.get("error.version.hint"), text);
        }
        String message = text.isEmpty()
                ? Strings.get("error.ended.silent", status)
                : Strings.get("error.ended", status, words.last());
        return new BridgeException(
                "PythonError", message, Strings.get("error.ended.hint"), text.isEmpty() ? null : text);
    }
}
