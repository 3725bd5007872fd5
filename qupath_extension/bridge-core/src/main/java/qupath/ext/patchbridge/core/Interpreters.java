package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Finds the Pythons of a machine that are new enough for the package. */
final class Interpreters {

    /** The oldest minor version of Python 3 that the package runs on. */
    static final int OLDEST_MINOR = 11;

    private static final Duration ANSWER = Duration.ofSeconds(10);
    private static final Pattern ANSWERED = Pattern.compile("python (3)\\.(\\d+)\\.(\\d+)");
    private static final Pattern NAME =
            Pattern.compile(PythonCommand.WINDOWS ? "python3?\\.exe" : "python(3(\\.\\d+)?)?");

    private Interpreters() {
    }

    /**
     * Returns the Pythons that are found, the newest first; one of each version.
     *
     * @param withVenv whether it has to be able to make an environment by itself
     */
    static List<Interpreter> find(Map<String, String> env, Path home, boolean withVenv) throws InterruptedException {
        Set<Path> known = new HashSet<>();
        Set<String> versions = new HashSet<>();
        List<Interpreter> found = new ArrayList<>();
        for (Path folder : folders(env, home)) {
            for (Path python : pythons(folder)) {
                if (known.add(real(python))) {
                    ask(python, env, withVenv).filter(each -> versions.add(each.version())).ifPresent(found::add);
                }
            }
        }
        found.sort((one, other) -> Arrays.compare(numbers(other), numbers(one)));
        return List.copyOf(found);
    }

    private static int[] numbers(Interpreter interpreter) {
        return Pattern.compile("\\.").splitAsStream(interpreter.version()).mapToInt(Integer::parseInt).toArray();
    }

    /** Returns where Pythons are: the PATH, which is short where QuPath starts from the desktop, and usual folders. */
    private static Set<Path> folders(Map<String, String> env, Path home) {
        Set<Path> folders = new LinkedHashSet<>(PythonLocator.pathFolders(env));
        if (PythonCommand.WINDOWS) {
            for (String variable : List.of("LOCALAPPDATA", "ProgramFiles")) {
                String root = env.get(variable);
                if (root != null) {
                    String inside = variable.equals("LOCALAPPDATA") ? "Programs/Python" : "";
                    folders.addAll(children(Path.of(root).resolve(inside)));
                }
            }
            return folders;
        }
        for (String folder : List.of("/usr/local/bin", "/opt/homebrew/bin", "/usr/bin")) {
            folders.add(Path.of(folder));
        }
        for (Path version : children(Path.of("/Library/Frameworks/Python.framework/Versions"))) {
            folders.add(version.resolve("bin"));
        }
        for (Path version : children(home.resolve(".pyenv").resolve("versions"))) {
            folders.add(version.resolve("bin"));
        }
        return folders;
    }

    private static List<Path> children(Path folder) {
        List<Path> children = new ArrayList<>();
        try (DirectoryStream<Path> stream = Files.newDirectoryStream(folder, Files::isDirectory)) {
            stream.forEach(children::add);
        } catch (IOException e) {
            return List.of();
        }
        return children;
    }

    private static List<Path> pythons(Path folder) {
        List<Path> pythons = new ArrayList<>();
        try (DirectoryStream<Path> stream = Files.newDirectoryStream(folder, Interpreters::mayBePython)) {
            stream.forEach(pythons::add);
        } catch (IOException e) {
            return List.of();
        }
        pythons.sort(Comparator.naturalOrder());
        return pythons;
    }

    private static boolean mayBePython(Path file) {
        return NAME.matcher(file.getFileName().toString()).matches()
                && Files.isRegularFile(file) && Files.isExecutable(file);
    }

    private static Path real(Path file) {
        try {
            return file.toRealPath();
        } catch (IOException e) {
            return file;
        }
    }

    /** Starts a Python to hear its version; empty if it is too old, broken, or silent for long. */
    static Optional<Interpreter> ask(Path python, Map<String, String> env, boolean withVenv)
            throws InterruptedException {
        String code = (withVenv ? "import venv, ensurepip; " : "")
                + "import sys; print('python %d.%d.%d' % sys.version_info[:3])";
        AtomicReference<String> answer = new AtomicReference<>("");
        try {
            ChildProcess child = ChildProcess.start(
                    List.of(python.toString(), "-I", "-c", code), PythonCommand.environment(env, python), null,
                    answer::set, line -> { });
            child.closeInput();
            if (!child.waitFor(ANSWER)) {
                child.end();
                return Optional.empty();
            }
            child.waitFor();
        } catch (IOException e) {
            return Optional.empty();
        }
        Matcher matcher = ANSWERED.matcher(answer.get());
        if (!matcher.matches() || Integer.parseInt(matcher.group(2)) < OLDEST_MINOR) {
            return Optional.empty();
        }
        return Optional.of(new Interpreter(python.toAbsolutePath(), answer.get().substring("python ".length())));
    }
}
