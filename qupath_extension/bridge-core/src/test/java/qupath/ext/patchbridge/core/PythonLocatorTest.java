package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import qupath.ext.patchbridge.core.PythonLocator.Found;
import qupath.ext.patchbridge.core.PythonLocator.Place;

class PythonLocatorTest {

    @TempDir
    Path temporary;

    private Path home;
    private Path scripts;
    private Path named;
    private Path setUp;
    private Path beside;
    private Path onPath;
    private Map<String, String> env;

    /** Puts a Python into each place. */
    @BeforeEach
    void fillAllPlaces() throws IOException {
        home = Files.createDirectories(temporary.resolve("home"));
        scripts = Files.createDirectories(temporary.resolve("package").resolve("groovy_scripts"));
        named = program(temporary.resolve("named").resolve("python3"));
        setUp = program(temporary.resolve("made").resolve("python"));
        new Setup(setUp, "0.1.0").save(home.resolve(".qupath-bridge").resolve("setup.json"));
        beside = program(temporary.resolve("package/.venv/bin/python"));
        onPath = program(temporary.resolve("second").resolve("qupath-bridge"));
        Files.createDirectories(temporary.resolve("first").resolve("qupath-bridge"));
        Path plain = Files.createDirectories(temporary.resolve("zeroth")).resolve("qupath-bridge");
        Files.writeString(plain, "no program");
        env = new HashMap<>(Map.of(
                "QUPATH_BRIDGE_PYTHON", named.toString(),
                "PATH", plain.getParent() + File.pathSeparator + temporary.resolve("first") + File.pathSeparator + File.pathSeparator
                        + onPath.getParent() + File.pathSeparator + temporary.resolve("third")));
    }

    private static Path program(Path file) throws IOException {
        Files.createDirectories(file.getParent());
        Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-xr-x")));
        return file;
    }

    private Optional<Found> find() throws BridgeException {
        return PythonLocator.find(env, home, scripts);
    }

    @Test
    void thePlacesAreSearchedInOrder() throws Exception {
        assertEquals(Optional.of(new Found(named, Place.ENVIRONMENT)), find());
        env.remove("QUPATH_BRIDGE_PYTHON");
        assertEquals(Optional.of(new Found(setUp, Place.SETUP_FILE)), find());
        Files.delete(Setup.file(env, home));
        assertEquals(Optional.of(new Found(beside, Place.BESIDE_SCRIPTS)), find());
        Files.delete(beside);
        assertEquals(Optional.of(new Found(onPath, Place.PATH)), find());
        Files.delete(onPath);
        assertEquals(Optional.empty(), find());
        env.remove("PATH");
        assertEquals(Optional.empty(), PythonLocator.find(env, home, null));
    }

    @Test
    void aNamedPythonThatIsMissingIsNeverReplacedByAnother() {
        env.put("QUPATH_BRIDGE_PYTHON", temporary.resolve("gone").toString());
        BridgeException failure = assertThrows(BridgeException.class, this::find);

        assertTrue(failure.getMessage().contains(temporary.resolve("gone").toString()));
        assertTrue(failure.hint().contains("QUPATH_BRIDGE_PYTHON"));
    }

    @Test
    void aPythonOfTheSetupFileThatIsMissingIsNeverReplacedByAnother() throws Exception {
        env.remove("QUPATH_BRIDGE_PYTHON");
        Files.delete(setUp);
        BridgeException failure = assertThrows(BridgeException.class, this::find);

        assertTrue(failure.getMessage().contains(setUp.toString()));
        assertTrue(failure.hint().contains("Set up"));
    }

    @Test
    void aNamedFolderIsNamed() {
        env.put("QUPATH_BRIDGE_PYTHON", temporary.toString());

        assertTrue(assertThrows(BridgeException.class, this::find).getMessage().contains("is a folder"));
    }
}
