package qupath.ext.patchbridge.core;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** How a Python is started: its program, arguments and environment. */
final class PythonCommand {

    static final boolean WINDOWS = System.getProperty("os.name", "").startsWith("Windows");

    /** Variables that would let another Python, or the user's own packages, into this one. */
    private static final List<String> DROPPED = List.of(
            "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__");

    private static final Map<String, String> SET = Map.of(
            "PYTHONUTF8", "1",
            "PYTHONIOENCODING", "utf-8",
            "PYTHONUNBUFFERED", "1",
            "PYTHONNOUSERSITE", "1");

    private PythonCommand() {
    }

    /**
     * Returns the command that runs qupath-bridge.
     *
     * @param python an interpreter, which is a program whose name begins with {@code python}; any
     *     other program is qupath-bridge itself
     */
    static List<String> bridge(Path python, String... arguments) {
        Stream<String> program = isInterpreter(python)
                ? Stream.of(python.toString(), "-m", "qupath_bridge")
                : Stream.of(python.toString());
        return Stream.concat(program, Stream.of(arguments)).toList();
    }

    static boolean isInterpreter(Path python) {
        return python.getFileName().toString().toLowerCase(Locale.ROOT).startsWith("python");
    }

    /** Returns where the interpreter of an environment is that venv or uv makes. */
    static Path inEnvironment(Path folder) {
        return WINDOWS ? folder.resolve("Scripts").resolve("python.exe") : folder.resolve("bin").resolve("python");
    }

    /** Returns the interpreter in the folder of an environment of any kind, such as one of conda. */
    static Optional<Path> findInEnvironment(Path folder) {
        return Stream.of("bin/python", "Scripts/python.exe", "python.exe")
                .map(folder::resolve).filter(Files::isRegularFile).findFirst();
    }

    /** Returns the variables of a Python that is started in the environment {@code env}. */
    static Map<String, String> environment(Map<String, String> env, Path python) {
        Map<String, String> variables = WINDOWS ? new TreeMap<>(String.CASE_INSENSITIVE_ORDER) : new TreeMap<>();
        variables.putAll(env);
        DROPPED.forEach(variables::remove);
        variables.putAll(SET);
        Path folder = python.toAbsolutePath().getParent();
        Path library = folder.resolve("Library").resolve("bin");
        if (Files.isDirectory(library)) {
            // A conda environment on Windows finds its libraries without being activated.
            variables.merge("PATH", join(folder, library, folder.resolve("Scripts")),
                    (old, added) -> added + File.pathSeparator + old);
        }
        return variables;
    }

    private static String join(Path... folders) {
        return Stream.of(folders).map(Path::toString).collect(Collectors.joining(File.pathSeparator));
    }
}
