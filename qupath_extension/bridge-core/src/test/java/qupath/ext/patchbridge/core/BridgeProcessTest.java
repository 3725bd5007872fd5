package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(120)
class BridgeProcessTest {

    @TempDir
    Path temporary;

    private Path program;
    private final List<Event> events = new CopyOnWriteArrayList<>();
    private final List<String> log = new CopyOnWriteArrayList<>();

    @BeforeEach
    void writeProgram() throws IOException {
        program = FakeBridge.program(Processes.folder(temporary));
    }

    private RunningRequest start(Request request) throws BridgeException {
        return BridgeProcess.start(program, request, events::add, log::add);
    }

    private BridgeException failure(Request request) throws BridgeException {
        RunningRequest running = start(request);
        return assertThrows(BridgeException.class, running::result);
    }

    @Test
    void aRequestArrivesWholeAndItsValueComesBack() throws Exception {
        Path project = Processes.folder(temporary).resolve("project.qpproj");
        JsonObject value = start(Request.of("echo").project(project).with("out", "a \"b\", {c}")).result();

        JsonObject request = value.getAsJsonObject("request");
        assertEquals(project.toString(), request.get("project").getAsString());
        assertEquals("a \"b\", {c}", request.get("out").getAsString());
        assertEquals(1, request.get("protocol").getAsInt());
        assertTrue(request.get("reviewer").isJsonNull());
        String file = Path.of(request.get("result").getAsString()).resolveSibling("request.json").toString();
        assertEquals("request|" + file, value.get("arguments").getAsString(), "only the file is on the command line");
        assertEquals(-1, value.get("input").getAsInt(), "nothing comes on the standard input");
    }

    @Test
    void eventsComeInTheirOrderAndOtherLinesGoToTheLog() throws Exception {
        JsonObject value = start(Request.of("echo")).result();

        Path result = Path.of(value.getAsJsonObject("request").get("result").getAsString());
        assertEquals(List.of(
                new Event.Start(1, "1.2.3", "/p/python"),
                new Event.Progress(3, 9, 1, 2, "中 ä", 12.5),
                new Event.Progress(9, 9, 2, 2, null, 13),
                new Event.Warning("Größe"),
                new Event.Result(result)), events);
        assertTrue(log.contains("für Menschen"), log.toString());
        assertTrue(log.contains("{\"event\":\"from-tomorrow\"}"), log.toString());
    }

    @Test
    void theEnvironmentKeepsOtherPythonsOut() throws Exception {
        // Maven starts these tests with both variables.
        assertEquals("/nowhere", System.getenv("PYTHONPATH"));
        assertEquals("/nowhere", System.getenv("PYTHONHOME"));
        JsonObject environment = start(Request.of("echo")).result().getAsJsonObject("environment");

        assertFalse(environment.has("PYTHONPATH"));
        assertFalse(environment.has("PYTHONHOME"));
        assertEquals("1", environment.get("PYTHONUTF8").getAsString());
        assertEquals("utf-8", environment.get("PYTHONIOENCODING").getAsString());
        assertEquals("1", environment.get("PYTHONUNBUFFERED").getAsString());
        assertEquals("1", environment.get("PYTHONNOUSERSITE").getAsString());
        assertEquals(System.getenv("PATH"), environment.get("PATH").getAsString());
    }

    @Test
    void aFailureIsThatOfTheResultFile() throws Exception {
        BridgeException failure = failure(Request.of("fail"));

        assertEquals("ProjectError", failure.kind());
        assertEquals("No project in Ä.", failure.getMessage());
        assertNull(failure.hint());
        assertEquals("Traceback", failure.details());
        assertFalse(failure.isCancelled());
    }

    @Test
    void aFailureWithoutResultFileIsThatOfTheEvent() throws Exception {
        BridgeException failure = failure(Request.of("fail-in-event"));

        assertEquals("OutputError", failure.kind());
        assertEquals("Full: ü", failure.getMessage());
        assertEquals("Make room.", failure.hint());
    }

    @Test
    void aDeadChildIsReportedWithItsLastWords() throws Exception {
        BridgeException failure = failure(Request.of("die"));

        assertTrue(failure.getMessage().contains("137"), failure.getMessage());
        assertTrue(failure.getMessage().contains("MemoryError: kein Speicher für 中"), failure.getMessage());
        assertTrue(failure.details().contains("Loading…\nMemoryError"), failure.details());
        assertFalse(failure.hint().isBlank());
    }

    @Test
    void brokenLinesAreLogLines() throws Exception {
        start(Request.of("broken")).result();

        for (String line : List.of("{\"event\":\"progress\",\"done\":3", "{\"event\":5}", "{}", "[1, 2]", "plain", "\ufffd\ufffd")) {
            assertTrue(log.contains(line), line + " in " + log);
        }
        assertTrue(events.contains(new Event.Progress(0, 0, 0, 0, null, 0)), events.toString());
        assertInstanceOf(Event.Result.class, events.get(events.size() - 1));
    }

    @Test
    void fiftyMegabytesDoNotFillTheMemory() throws Exception {
        // Maven gives these tests 64 MB of memory.
        AtomicLong lines = new AtomicLong();
        AtomicLong longest = new AtomicLong();
        BridgeProcess.start(program, Request.of("flood"), events::add, line -> {
            lines.incrementAndGet();
            longest.accumulateAndGet(line.length(), Math::max);
        }).result();

        assertEquals(2 * (1 + 500_000), lines.get());
        assertEquals(BoundedLines.LONGEST, longest.get());
    }

    @Test
    void silenceIsNoFault() throws Exception {
        start(Request.of("silent")).result();
    }

    @Test
    void aListenerThatFailsStopsNothing() throws Exception {
        RunningRequest running = BridgeProcess.start(program, Request.of("echo"), event -> {
            events.add(event);
            throw new IllegalStateException("listener");
        }, line -> {
            throw new IllegalStateException("listener");
        });

        assertTrue(running.result().has("request"));
        assertInstanceOf(Event.Result.class, events.get(events.size() - 1), "all events came");
        assertTrue(running.isDone());
    }

    @Test
    void cancelEndsTheWholeTree() throws Exception {
        assertTrue(ProcessTree.GRACE.compareTo(Duration.ofSeconds(4)) < 0, "all within 5 s");
        RunningRequest running = start(Request.of("tree"));
        List<Long> pids = pids();
        running.cancel();

        BridgeException failure = assertThrows(BridgeException.class, running::result);
        assertTrue(failure.isCancelled());
        for (long pid : pids) {
            Processes.await(pid + " ends", () -> !Processes.runs(pid));
        }
        running.cancel();
    }

    /** Returns the process ids of parent and child, which come as warnings, the parent's twice. */
    private List<Long> pids() throws InterruptedException {
        Processes.await("both processes run", () -> warnings().size() == 3);
        List<Long> pids = warnings().stream().map(Long::valueOf).distinct().toList();
        assertEquals(2, pids.size());
        assertTrue(pids.stream().allMatch(Processes::runs));
        return pids;
    }

    private List<String> warnings() {
        return events.stream().filter(Event.Warning.class::isInstance)
                .map(event -> ((Event.Warning) event).text()).toList();
    }

    @Test
    void cancelAfterTheEndChangesNothing() throws Exception {
        RunningRequest running = start(Request.of("echo"));
        JsonObject value = running.result();
        running.cancel();

        assertEquals(value, running.result());
    }

    @Test
    void whenTheProgramAroundEndsItsChildrenEnd() throws Exception {
        Path quitting = FakeBridge.program(temporary, "qupath", QuittingProgram.class);
        Process process = new ProcessBuilder(quitting.toString(), program.toString()).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes());
        assertTrue(process.waitFor(60, TimeUnit.SECONDS));

        List<Long> pids = output.lines().map(Long::valueOf).distinct().toList();
        assertEquals(2, pids.size(), output);
        for (long pid : pids) {
            Processes.await(pid + " ends", () -> !Processes.runs(pid));
        }
    }

    @Test
    void nothingStaysInTheFolderForTemporaryFiles() throws Exception {
        Path folder = Path.of(System.getProperty("java.io.tmpdir"));
        start(Request.of("echo")).result();
        failure(Request.of("die"));

        try (DirectoryStream<Path> left = Files.newDirectoryStream(folder, "patch-bridge-*")) {
            assertFalse(left.iterator().hasNext());
        }
    }

    @Test
    void aFolderIsNoPython() {
        BridgeException failure = assertThrows(BridgeException.class,
                () -> BridgeProcess.start(temporary, Request.of("echo"), events::add, log::add));

        assertTrue(failure.getMessage().contains(temporary.toString()));
        assertTrue(failure.hint().contains(PythonCommand.inEnvironment(temporary).toString()), failure.hint());
    }

    @Test
    void aMissingPythonIsNamed() {
        Path missing = temporary.resolve("python3");
        BridgeException failure = assertThrows(BridgeException.class,
                () -> BridgeProcess.start(missing, Request.of("echo"), events::add, log::add));

        assertTrue(failure.getMessage().contains(missing.toString()));
        assertTrue(failure.hint().contains("Set up"), failure.hint());
    }

    @Test
    void aFileThatIsNoProgramIsNamed() throws Exception {
        Path text = Files.writeString(temporary.resolve("python3"), "text");
        BridgeException failure = assertThrows(BridgeException.class,
                () -> BridgeProcess.start(text, Request.of("echo"), events::add, log::add));

        assertTrue(failure.getMessage().contains(text.toString()));
    }

    @Test
    void aPythonWithoutThePackageIsToldItsCure() throws Exception {
        Path python = script("python3", "echo \"$0: No module named qupath_bridge\" >&2; exit 1");
        RunningRequest running = BridgeProcess.start(python, Request.of("check"), events::add, log::add);
        BridgeException failure = assertThrows(BridgeException.class, running::result);

        assertEquals(python + " does not have the package qupath-bridge.", failure.getMessage());
        assertTrue(failure.hint().contains("Set up"), failure.hint());
    }

    @Test
    void anOldPackageIsToldItsCure() throws Exception {
        Path python = script("python3", "echo \"Error: No such command 'request'.\" >&2; exit 2");
        RunningRequest running = BridgeProcess.start(python, Request.of("check"), events::add, log::add);
        BridgeException failure = assertThrows(BridgeException.class, running::result);

        assertEquals("VersionError", failure.kind());
        assertTrue(failure.hint().contains("matching package"), failure.hint());
    }

    @Test
    void anInterpreterRunsTheModule() throws Exception {
        Path python = script("python3.12", "echo \"arguments $1 $2 $3\"; exit 1");
        RunningRequest running = BridgeProcess.start(python, Request.of("check"), events::add, log::add);
        assertThrows(BridgeException.class, running::result);

        assertEquals(List.of("arguments -m qupath_bridge request"), log);
    }

    private Path script(String name, String body) throws IOException {
        Path file = Files.writeString(temporary.resolve(name), "#!/bin/sh\n" + body + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
        return file;
    }
}
