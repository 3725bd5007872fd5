package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/**
 * Which Python the extension and the scripts use. It is kept in a file of its own, since QuPath's
 * preferences begin anew with each minor version.
 *
 * @param python absolute path of the interpreter
 * @param version of the package in it
 */
public record Setup(Path python, String version) {

    /** Returns the folder of the set-up: {@code ~/.qupath-bridge}, or {@code QUPATH_BRIDGE_HOME}. */
    public static Path folder(Map<String, String> env, Path home) {
        throw new UnsupportedOperationException();
    }

    /** Returns the file of the set-up: {@code setup.json} in its folder. */
    public static Path file(Map<String, String> env, Path home) {
        return folder(env, home).resolve("setup.json");
    }

    /**
     * Reads the set-up.
     *
     * @return empty if there is no file
     * @throws BridgeException if the file cannot be read, or does not say what it has to
     */
    public static Optional<Setup> load(Path file) throws BridgeException {
        throw new UnsupportedOperationException();
    }

    /** Writes the set-up, all or nothing, and makes its folder. */
    public void save(Path file) throws IOException {
        throw new UnsupportedOperationException();
    }
}
