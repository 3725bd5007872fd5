package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;

/** Chooses the Python that the extension and the scripts use, or makes one. */
public final class PythonSetup {

    private static final String PREFIX = "python-";

    private final Map<String, String> env;
    private final Path home;

    /**
     * Makes the set-up of a user.
     *
     * @param env the environment's variables
     * @param home the user's home folder
     */
    public PythonSetup(Map<String, String> env, Path home) {
        this.env = Map.copyOf(env);
        this.home = home;
    }

    /**
     * Returns the Pythons that an environment can be made from, the newest first, one of each version.
     * Starts each of them, which takes seconds.
     */
    public List<Interpreter> interpreters() throws InterruptedException {
        return Interpreters.find(env, home, uv().isEmpty());
    }

    /** Returns the program uv, which makes environments quickly, if it is on this machine. */
    public Optional<Path> uv() {
        Optional<Path> found = PythonLocator.onPath(env, "uv");
        for (String folder : List.of(".local/bin", ".cargo/bin")) {
            Path program = home.resolve(folder).resolve(PythonCommand.WINDOWS ? "uv.exe" : "uv");
            if (found.isEmpty() && Files.isExecutable(program)) {
                found = Optional.of(program);
            }
        }
        return found;
    }

    /**
     * Takes a Python that has the package: checks it, and keeps it in the set-up file.
     *
     * @param python an interpreter, the program {@code qupath-bridge}, or the folder of an environment
     * @param progress called with lines for people, in threads of this package
     */
    public Running<Setup> choose(Path python, Consumer<String> progress) {
        Path program = PythonCommand.findInEnvironment(python).orElse(python);
        return Work.start("set-up", work -> keep(work, program, progress));
    }

    /**
     * Makes an environment in the set-up's folder, installs the package from the wheel of this jar,
     * checks it, and keeps it in the set-up file. Environments that were made earlier are removed
     * then: let no export run. After a failure, what was half made is removed and all else is as it was.
     *
     * @param interpreter to make it from; null for the newest, or for the one that uv chooses
     * @param wheels folder with the wheels of all dependencies, for a machine without network; null
     *     to take them from the registry
     * @param progress called with lines for people, in threads of this package
     */
    public Running<Setup> make(Path interpreter, Path wheels, Consumer<String> progress) {
        return Work.start("set-up", work -> make(work, interpreter, wheels, progress));
    }

    private Setup make(Work<Setup> work, Path interpreter, Path wheels, Consumer<String> progress)
            throws BridgeException, InterruptedException {
        if (wheels != null && !Files.isDirectory(wheels)) {
            throw new BridgeException("SetupError", Strings.get("error.setup.wheels", wheels),
                    Strings.get("error.setup.wheels.hint", BridgeVersion.current()), null);
        }
        Path uv = uv().orElse(null);
        Path base = interpreter == null && uv == null ? newest() : interpreter;
        if (base != null) {
            Ended.checkProgram(base);
        }
        Path folder = newFolder();
        boolean done = false;
        try {
            Path python = new EnvironmentMaker(env, uv, wheels, progress).make(work, folder, base);
            Setup setup = keep(work, python, progress);
            done = true;
            removeOthers(folder);
            return setup;
        } finally {
            if (!done) {
                remove(folder);
            }
        }
    }

    private Path newest() throws BridgeException, InterruptedException {
        return interpreters().stream().findFirst().map(Interpreter::python)
                .orElseThrow(() -> new BridgeException("SetupError",
                        Strings.get("error.setup.no-python", "3." + Interpreters.OLDEST_MINOR),
                        Strings.get("error.setup.no-python.hint"), null));
    }

    private Setup keep(Work<Setup> work, Path python, Consumer<String> progress)
            throws BridgeException, InterruptedException {
        progress.accept(Strings.get("setup.check", python));
        BridgeCheck check = BridgeCheck.run(work, python, progress);
        check.problems().forEach(progress);
        work.checkCancelled();
        Setup setup = new Setup(python.toAbsolutePath(), check.version());
        Path file = Setup.file(env, home);
        try {
            setup.save(file);
        } catch (IOException e) {
            throw new BridgeException("SetupError", Strings.get("error.setup-file.write", file, e.getMessage()),
                    Strings.get("error.setup-file.write.hint"), e.toString());
        }
        progress.accept(Strings.get("setup.done", file));
        return setup;
    }


    /** Returns a folder that does not exist yet, so that no environment in use is touched. */
    private Path newFolder() throws BridgeException {
        Path parent = Setup.folder(env, home).toAbsolutePath();
        try {
            Files.createDirectories(parent);
        } catch (IOException e) {
            throw new BridgeException("SetupError", Strings.get("error.setup-file.write", parent, e.getMessage()),
                    Strings.get("error.setup-file.write.hint"), e.toString());
        }
        int number = 1;
        Path folder = parent.resolve(PREFIX + BridgeVersion.current());
        while (Files.exists(folder)) {
            number++;
            folder = parent.resolve(PREFIX + BridgeVersion.current() + "-" + number);
        }
        return folder;
    }

    private static void removeOthers(Path kept) {
        try (DirectoryStream<Path> stream = Files.newDirectoryStream(kept.getParent(), PREFIX + "*")) {
            for (Path folder : stream) {
                if (!folder.equals(kept) && Files.isRegularFile(folder.resolve("pyvenv.cfg"))) {
                    Exchange.removeTree(folder);
                }
            }
        } catch (IOException e) {
            // What cannot be listed stays; it is not used any more.
            return;
        }
    }

    /** Removes what was half made. Processes that are being ended may still write into it for a moment. */
    private static void remove(Path folder) throws InterruptedException {
        for (int i = 0; i < 20 && Files.exists(folder); i++) {
            Exchange.removeTree(folder);
            if (Files.exists(folder)) {
                Thread.sleep(200);
            }
        }
    }
}
