package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;

/** Makes an environment and installs the package of the jar into it, in steps that can be cancelled. */
final class EnvironmentMaker {

    private final Map<String, String> env;
    private final Path uv;
    private final Path wheels;
    private final Consumer<String> progress;

    /**
     * Makes a maker.
     *
     * @param env the environment's variables
     * @param uv the program uv; null to use the interpreter's own tools
     * @param wheels folder with all dependencies; null for the registry
     * @param progress called with each line for people
     */
    EnvironmentMaker(Map<String, String> env, Path uv, Path wheels, Consumer<String> progress) {
        this.env = env;
        this.uv = uv;
        this.wheels = wheels;
        this.progress = progress;
    }

    /**
     * Makes the environment.
     *
     * @param folder that does not exist yet
     * @param interpreter to make it from; null lets uv choose
     * @return the environment's interpreter
     */
    Path make(Work<?> work, Path folder, Path interpreter) throws BridgeException, InterruptedException {
        progress.accept(Strings.get("setup.environment", folder));
        run(work, environmentCommand(folder, interpreter));
        Path python = PythonCommand.inEnvironment(folder);
        Path temporary = null;
        try {
            temporary = Files.createTempDirectory("patch-bridge-");
            Path wheel = BundledWheel.copyTo(temporary, BridgeVersion.current());
            progress.accept(Strings.get("setup.install", BridgeVersion.current()));
            run(work, installCommand(python, wheel));
        } catch (IOException e) {
            throw new BridgeException(
                    "SetupError", Strings.get("error.wheel.copy", e.getMessage()), null, e.toString());
        } finally {
            if (temporary != null) {
                Exchange.removeTree(temporary);
            }
        }
        return python;
    }

    private List<String> environmentCommand(Path folder, Path interpreter) {
        if (uv == null) {
            return List.of(interpreter.toString(), "-m", "venv", folder.toString());
        }
        List<String> command = new ArrayList<>(List.of(uv.toString(), "venv", "--python",
                interpreter == null ? ">=3." + Interpreters.OLDEST_MINOR : interpreter.toString()));
        if (wheels != null) {
            command.add("--offline");
        }
        command.add(folder.toString());
        return command;
    }

    private List<String> installCommand(Path python, Path wheel) {
        List<String> command = new ArrayList<>(uv == null
                ? List.of(python.toString(), "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
                : List.of(uv.toString(), "pip", "install", "--python", python.toString()));
        if (wheels != null) {
            command.addAll(List.of("--no-index", "--find-links", findLinks()));
            if (uv != null) {
                command.add("--offline");
            }
        }
        command.add(wheel.toString());
        return command;
    }

    /** Returns the folder of wheels as its program takes it: uv cuts this option at each comma. */
    private String findLinks() {
        return uv == null ? wheels.toString() : wheels.toUri().toString().replace(",", "%2C");
    }

    private void run(Work<?> work, List<String> command) throws BridgeException, InterruptedException {
        work.checkCancelled();
        Path program = Path.of(command.get(0));
        Map<String, String> variables = new TreeMap<>(PythonCommand.environment(env, program));
        variables.remove("VIRTUAL_ENV");
        ChildProcess child;
        try {
            child = ChildProcess.start(command, variables, null, progress, progress);
        } catch (IOException e) {
            throw Ended.notStarted(program, e);
        }
        child.closeInput();
        work.onCancel(child::end);
        if (child.waitFor() != 0) {
            String hint = wheels == null ? "error.setup.hint" : "error.setup.wheels.hint";
            throw new BridgeException("SetupError", Strings.get("error.setup", child.lastWords().reason()),
                    Strings.get(hint, BridgeVersion.current()),
                    String.join(" ", command) + "\n" + child.lastWords().text());
        }
    }
}
