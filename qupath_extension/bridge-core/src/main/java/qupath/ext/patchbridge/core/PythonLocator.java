package qupath.ext.patchbridge.core;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
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
     * @throws BridgeException if the environment or the set-up file names a program that is not there:
     *     another one is never taken in its place
     */
    public static Optional<Found> find(Map<String, String> env, Path home, Path scriptsFolder)
            throws BridgeException {
        String named = env.getOrDefault("QUPATH_BRIDGE_PYTHON", "");
        if (!named.isBlank()) {
            return Optional.of(new Found(checked(path(named), "error.python.environment.hint"), Place.ENVIRONMENT));
        }
        Optional<Setup> setup = Setup.load(Setup.file(env, home));
        if (setup.isPresent()) {
            return Optional.of(new Found(checked(setup.get().python(), "error.python.hint"), Place.SETUP_FILE));
        }
        if (scriptsFolder != null) {
            Path folder = scriptsFolder.toAbsolutePath().normalize().resolveSibling(".venv");
            Path python = PythonCommand.inEnvironment(folder);
            if (Files.isRegularFile(python)) {
                return Optional.of(new Found(python, Place.BESIDE_SCRIPTS));
            }
        }
        return onPath(env, "qupath-bridge").map(program -> new Found(program, Place.PATH));
    }

    private static Path path(String text) throws BridgeException {
        try {
            return Path.of(text);
        } catch (InvalidPathException e) {
            throw new BridgeException("PythonError", Strings.get("error.python.missing", text),
                    Strings.get("error.python.environment.hint"), null);
        }
    }

    private static Path checked(Path python, String hint) throws BridgeException {
        if (!Files.exists(python)) {
            throw new BridgeException("PythonError", Strings.get("error.python.missing", python),
                    Strings.get(hint), null);
        }
        Ended.checkProgram(python);
        return python;
    }

    /** Returns the first program of a name on the PATH. */
    static Optional<Path> onPath(Map<String, String> env, String name) {
        String file = PythonCommand.WINDOWS ? name + ".exe" : name;
        for (Path folder : pathFolders(env)) {
            Path program = folder.resolve(file);
            if (Files.isRegularFile(program) && Files.isExecutable(program)) {
                return Optional.of(program);
            }
        }
        return Optional.empty();
    }

    /** Returns the folders of the PATH; on Windows the variable may be written {@code Path}. */
    static List<Path> pathFolders(Map<String, String> env) {
        String path = env.entrySet().stream()
                .filter(entry -> PythonCommand.WINDOWS
                        ? entry.getKey().equalsIgnoreCase("PATH") : entry.getKey().equals("PATH"))
                .map(Map.Entry::getValue).findFirst().orElse("");
        List<Path> folders = new ArrayList<>();
        for (String folder : path.split(File.pathSeparator)) {
            try {
                if (!folder.isBlank()) {
                    folders.add(Path.of(folder));
                }
            } catch (InvalidPathException e) {
                // A PATH may hold anything; what is no folder holds no program.
                continue;
            }
        }
        return folders;
    }
}
