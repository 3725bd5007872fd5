package qupath.ext.patchbridge.core;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;

/** Chooses the Python that the extension and the scripts use, or makes one. */
public final class SetUp {

    /**
     * An interpreter on this machine that a new environment can be made from.
     *
     * @param python absolute path
     * @param version such as {@code 3.12.4}
     */
    public record Interpreter(Path python, String version) {
    }

    private final Map<String, String> env;
    private final Path home;

    /**
     * Makes the set-up of a user.
     *
     * @param env the environment's variables
     * @param home the user's home folder
     */
    public SetUp(Map<String, String> env, Path home) {
        this.env = Map.copyOf(env);
        this.home = home;
    }

    /** Returns interpreters that are new enough, the newest first. Starts each of them: takes seconds. */
    public List<Interpreter> interpreters() throws InterruptedException {
        throw new UnsupportedOperationException();
    }

    /** Returns the program uv, which makes environments quickly, if it is on this machine. */
    public Optional<Path> uv() {
        throw new UnsupportedOperationException();
    }

    /**
     * Takes a Python that has the package: checks it, and keeps it in the set-up file.
     *
     * @param python an interpreter, or the folder of an environment
     * @param progress called with lines for people, in a thread of this package
     */
    public Running<Setup> choose(Path python, Consumer<String> progress) {
        throw new UnsupportedOperationException();
    }

    /**
     * Makes an environment in the set-up's folder, installs the package from the wheel of this jar,
     * checks it, and keeps it in the set-up file. What was half made is removed again.
     *
     * @param interpreter to make it from; null lets uv choose
     * @param wheels folder with the wheels of all dependencies, for a machine without network; null
     *     to take them from the registry
     * @param progress called with lines for people, in a thread of this package
     */
    public Running<Setup> make(Path interpreter, Path wheels, Consumer<String> progress) {
        throw new UnsupportedOperationException();
    }
}
