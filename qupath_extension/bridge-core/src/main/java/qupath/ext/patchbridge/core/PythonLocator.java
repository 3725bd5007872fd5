package qupath.ext.patchbridge.core;

import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/** Finds the Python that is set up. The scripts look in the same places, in the same order. */
public final class PythonLocator {

    /** The place where a Python was found. */
    public enum Place {
        /** The environment variable {@code QUPATH_BRIDGE_PYTHON}. */
        ENVIRONMENT,
        /** The file that Set up writes. */
        SETUP_FILE,
        /** The folder {@code .venv} beside the folder of the scripts. */
        BESIDE_SCRIPTS,
        /** The program {@code qupath-bridge} on the PATH. */
        PATH
    }

    /**
     * A program that may answer requests.
     *
     * @param python an interpreter, or the program {@code qupath-bridge}
     * @param place where it was found
     */
    public record Found(Path python, Place place) {
    }

    private PythonLocator() {
    }

    /**
     * Looks in the environment, the set-up file, {@code ../.venv} beside the scripts, and the PATH.
     *
     * @param env the environment's variables
     * @param home the user's home folder
     * @param scriptsFolder the folder of the scripts; null for none
     * @return empty if no place names one
     * @throws BridgeException if a place names a file that is not there: the next place is not tried
     */
    public static Optional<Found> find(Map<String, String> env, Path home, Path scriptsFolder)
            throws BridgeException {
        throw new UnsupportedOperationException();
    }
}
