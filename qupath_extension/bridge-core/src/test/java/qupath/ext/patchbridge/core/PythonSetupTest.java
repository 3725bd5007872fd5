package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Makes real environments with the Python and the uv of this machine, from small wheels. */
@Timeout(300)
class PythonSetupTest {

    @TempDir
    Path temporary;

    private Path home;
    private Path wheels;
    private Map<String, String> env;
    private final List<String> lines = new CopyOnWriteArrayList<>();

    @BeforeEach
    void prepare() throws IOException {
        Path folder = Processes.folder(temporary);
        home = Files.createDirectories(folder.resolve("home"));
        wheels = Files.createDirectories(folder.resolve("wheels"));
        FakeWheels.bundle(BridgeVersion.current());
        FakeWheels.writeNeeded(wheels);
        env = new HashMap<>(System.getenv());
        env.put("PATH", Processes.withoutUv(env.get("PATH")));
        env.remove("PIP_FIND_LINKS");
        env.remove("QUPATH_BRIDGE_HOME");
    }

    @AfterEach
    void takeWheelAway() {
        FakeWheels.unbundle();
    }

    private PythonSetup setUp() {
        return new PythonSetup(env, home);
    }

    private Path python() throws InterruptedException {
        List<Interpreter> found = setUp().interpreters();
        assumeTrue(!found.isEmpty(), "no Python 3.11 with venv on this machine");
        return found.get(0).python();
    }

    private List<Path> environments() {
        File[] folders = Setup.folder(env, home).toFile().listFiles(File::isDirectory);
        return folders == null ? List.of() : Stream.of(folders).map(File::toPath).toList();
    }

    private void check(Setup setup) throws Exception {
        assertEquals(BridgeVersion.current(), setup.version());
        assertEquals(Optional.of(setup), Setup.load(Setup.file(env, home)));
        assertEquals(List.of(setup.python().getParent().getParent()), environments());
        assertTrue(BridgeCheck.start(setup.python(), lines::add).result().problems().contains("one problem"));
        assertTrue(lines.contains("one problem"), lines.toString());
    }

    @Test
    void anEnvironmentIsMadeFromTheRegistry() throws Exception {
        // pip finds what is needed where its own settings say, as it finds a registry.
        env.put("PIP_NO_INDEX", "1");
        env.put("PIP_FIND_LINKS", wheels.toUri().toString());

        check(setUp().make(python(), null, lines::add).result());
    }

    @Test
    void uvMakesAnEnvironment() throws Exception {
        Optional<Path> uv = new PythonSetup(System.getenv(), home).uv();
        assumeTrue(uv.isPresent(), "no uv on the PATH");
        env.put("PATH", uv.get().getParent() + File.pathSeparator + env.get("PATH"));
        env.put("UV_CACHE_DIR", temporary.resolve("cache").toString());

        check(setUp().make(python(), wheels, lines::add).result());
        env.put("UV_NO_INDEX", "1");
        env.put("UV_FIND_LINKS", wheels.toUri().toString().replace(",", "%2C"));
        check(setUp().make(null, null, lines::add).result());
    }

    @Test
    void anEnvironmentIsMadeFromAFolderOfWheelsAndAnotherReplacesItOnlyWhenItIsDone() throws Exception {
        Path python = python();
        Setup first = setUp().make(python, wheels, lines::add).result();
        check(first);
        assertTrue(lines.stream().anyMatch(line -> line.contains("qb-needed") || line.contains("qb_needed")),
                "the lines of pip are shown: " + lines);

        FakeWheels.bundle("9.9.9");
        BridgeException failure = assertThrows(BridgeException.class,
                () -> setUp().make(python, wheels, lines::add).result());

        assertEquals("VersionError", failure.kind());
        assertTrue(failure.getMessage().contains("9.9.9") && failure.getMessage().contains(BridgeVersion.current()));
        assertFalse(failure.hint().isBlank());
        check(first);

        FakeWheels.bundle(BridgeVersion.current());
        Files.createDirectory(Setup.folder(env, home).resolve("python-mine"));
        Setup second = setUp().make(python, wheels, lines::add).result();
        assertFalse(Files.exists(first.python()));
        assertTrue(Files.exists(second.python()));
        assertTrue(Files.exists(Setup.folder(env, home).resolve("python-mine")), "only environments are removed");
    }

    @Test
    void aWheelThatIsMissingIsNamedAndNothingStays() throws Exception {
        Path python = python();
        Path empty = Files.createDirectory(temporary.resolve("empty"));
        BridgeException failure = assertThrows(BridgeException.class,
                () -> setUp().make(python, empty, lines::add).result());

        assertTrue(failure.getMessage().contains("qb-needed"), failure.getMessage());
        assertTrue(failure.hint().contains("wheels"), failure.hint());
        assertTrue(failure.details().contains("--no-index"), failure.details());
        assertEquals(List.of(), environments());
        assertEquals(Optional.empty(), Setup.load(Setup.file(env, home)));
    }

    @Test
    void aFolderOfWheelsThatIsMissingIsNamed() {
        Path missing = temporary.resolve("missing");
        BridgeException failure = assertThrows(BridgeException.class,
                () -> setUp().make(null, missing, lines::add).result());

        assertTrue(failure.getMessage().contains(missing.toString()));
    }

    @Test
    void aJarWithoutTheWheelSaysSo() {
        BridgeException failure = assertThrows(BridgeException.class, () -> BundledWheel.copyTo(temporary, "9.9.9"));

        assertEquals("This extension was built without the Python package.", failure.getMessage());
        assertTrue(failure.hint().contains("9.9.9"), failure.hint());
    }

    @Test
    void cancelLeavesNothing() throws Exception {
        Path python = script("python3", "case \"$2\" in venv) mkdir -p \"$3\"; touch \"$3/pyvenv.cfg\"; sleep 60;; esac");
        Running<Setup> running = setUp().make(python, null, lines::add);
        Processes.await("it is being made", () -> !environments().isEmpty());
        running.cancel();

        assertTrue(assertThrows(BridgeException.class, running::result).isCancelled());
        assertEquals(List.of(), environments());
    }

    @Test
    void aChosenPythonIsKept() throws Exception {
        Path folder = home.resolve("my environment");
        Path python = FakeBridge.program(folder.resolve("bin"), "python", FakeBridge.class);

        Path conda = home.resolve("conda");
        Path ofConda = FakeBridge.program(conda, "python.exe", FakeBridge.class);

        for (Map.Entry<Path, Path> chosen : Map.of(python, python, folder, python, conda, ofConda).entrySet()) {
            Setup setup = setUp().choose(chosen.getKey(), lines::add).result();
            assertEquals(new Setup(chosen.getValue(), BridgeVersion.current()), setup);
            assertEquals(Optional.of(setup), Setup.load(Setup.file(env, home)));
            Files.delete(Setup.file(env, home));
        }
    }

    @Test
    void aChosenPythonWithoutThePackageIsNotKept() throws Exception {
        Path python = python();
        BridgeException failure = assertThrows(BridgeException.class,
                () -> setUp().choose(python, lines::add).result());

        assertTrue(failure.getMessage().contains("does not have the package"), failure.getMessage());
        assertEquals(Optional.empty(), Setup.load(Setup.file(env, home)));
    }

    @Test
    void onlyInterpretersThatAreNewEnoughAreFound() throws Exception {
        env.put("PATH", temporary.resolve("bin").toString());
        script("bin/python3.10", "echo 'python 3.10.14'");
        script("bin/python3.99", "echo 'python 3.99.1'");
        script("bin/python3.100", "echo 'python 3.100.0'");
        script("bin/python3", "echo 'python 2.7.18'");
        script("bin/python", "echo broken >&2; exit 1");
        script("bin/pythonw", "echo 'python 3.98.0'");
        List<Interpreter> found = setUp().interpreters();

        assertEquals(List.of(new Interpreter(temporary.resolve("bin/python3.100"), "3.100.0"),
                new Interpreter(temporary.resolve("bin/python3.99"), "3.99.1")), found.subList(0, 2));
        assertTrue(found.stream().noneMatch(each -> each.version().matches("2.*|3\\.10\\..*|3\\.98.*")), found.toString());
    }

    private Path script(String name, String body) throws IOException {
        Path file = temporary.resolve(name);
        Files.createDirectories(file.getParent());
        Files.writeString(file, "#!/bin/sh\n" + body + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
        return file;
    }
}
