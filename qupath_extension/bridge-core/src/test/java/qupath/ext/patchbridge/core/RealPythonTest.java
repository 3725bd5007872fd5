package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;
import org.junit.jupiter.api.io.TempDir;

/** Talks with the real package, where the environment says that it may. */
@Timeout(1200)
class RealPythonTest {

    @TempDir
    Path temporary;

    private final List<Event> events = new CopyOnWriteArrayList<>();
    private final List<String> log = new CopyOnWriteArrayList<>();

    @Test
    @EnabledIfEnvironmentVariable(named = "QUPATH_BRIDGE_PYTHON", matches = ".+", disabledReason = "names no Python")
    void thePackageAnswers() throws Exception {
        Path python = Path.of(System.getenv("QUPATH_BRIDGE_PYTHON"));
        talk(python);
        Request missing = Request.of("runs").project(Processes.folder(temporary).resolve("project.qpproj"));
        RunningRequest running = BridgeProcess.start(python, missing, events::add, log::add);
        BridgeException failure = assertThrows(BridgeException.class, running::result);

        assertTrue(failure.getMessage().contains("project.qpproj"), failure.report());
    }

    /** Asks a Python once and several times. */
    private void talk(Path python) throws Exception {
        BridgeCheck check = BridgeCheck.start(python, log::add).result();
        assertEquals(BridgeVersion.current(), check.version());
        assertTrue(Files.isExecutable(Path.of(check.python())), check.toString());

        BridgeProcess.start(python, Request.of("check"), events::add, log::add).result();
        Event.Start start = assertInstanceOf(Event.Start.class, events.get(0));
        assertEquals(BridgeVersion.current(), start.version());
        assertInstanceOf(Event.Result.class, events.get(events.size() - 1));

        try (BridgeSession session = new BridgeSession(python, log::add)) {
            for (int i = 0; i < 2; i++) {
                JsonObject value = session.submit(Request.of("check"), events::add).get(60, TimeUnit.SECONDS);
                assertEquals(BridgeVersion.current(), value.get("version").getAsString());
                ExecutionException failed = assertThrows(ExecutionException.class,
                        () -> session.submit(Request.of("unheard-of"), events::add).get(60, TimeUnit.SECONDS));
                assertInstanceOf(BridgeException.class, failed.getCause());
            }
        }
    }

    /** Needs the registry, some minutes, and the jar's wheel: {@code make extension} builds it. */
    @Test
    @EnabledIfEnvironmentVariable(named = "QUPATH_BRIDGE_REAL_SETUP", matches = ".+", disabledReason = "not wanted")
    void theWheelIsInstalledFromTheRegistryAndFromAFolder() throws Exception {
        assumeTrue(PythonSetup.class.getResource("wheel") != null, "this build carries no wheel");
        Map<String, String> env = new HashMap<>(System.getenv());
        env.put("QUPATH_BRIDGE_HOME", Processes.folder(temporary).toString());
        env.put("PATH", Processes.withoutUv(env.get("PATH")));
        Setup online = new PythonSetup(env, temporary).make(null, null, log::add).result();
        talk(online.python());

        Path wheels = download(online.python());
        env.put("PIP_INDEX_URL", "http://127.0.0.1:9/");
        env.remove("PIP_FIND_LINKS");
        Setup offline = new PythonSetup(env, temporary).make(null, wheels, log::add).result();
        talk(offline.python());
        assertFalse(Files.exists(online.python()));
    }

    private Path download(Path python) throws Exception {
        Path folder = Files.createDirectories(temporary.resolve("wheels"));
        Path wheel = BundledWheel.copyTo(folder, BridgeVersion.current());
        ChildProcess pip = ChildProcess.start(
                List.of(python.toString(), "-m", "pip", "download",
                        "--dest", folder.toString(), wheel.toString()),
                PythonCommand.environment(System.getenv(), python), null, log::add, log::add);
        assertEquals(0, pip.waitFor(), pip.lastWords().text());
        return folder;
    }
}
