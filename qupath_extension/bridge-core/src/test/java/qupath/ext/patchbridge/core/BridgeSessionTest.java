package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(120)
class BridgeSessionTest {

    @TempDir
    Path temporary;

    private BridgeSession session;
    private Path folder;
    private final List<Event> events = new CopyOnWriteArrayList<>();
    private final List<String> log = new CopyOnWriteArrayList<>();

    @BeforeEach
    void open() throws IOException {
        folder = Processes.folder(temporary);
        session = new BridgeSession(FakeBridge.program(folder), log::add);
    }

    @AfterEach
    void close() {
        session.close();
    }

    private CompletableFuture<JsonObject> submit(String command, String name) {
        return session.submit(
                Request.of(command).with("name", name).with("go", folder.resolve("go")), events::add);
    }

    private static JsonObject value(CompletableFuture<JsonObject> outcome) throws Exception {
        return outcome.get(60, TimeUnit.SECONDS);
    }

    private static int answered(JsonObject value) {
        return value.get("answered").getAsInt();
    }

    private static long pid(JsonObject value) {
        return value.get("pid").getAsLong();
    }

    /** Starts a request that is answered when the file {@code go} is there. */
    private CompletableFuture<JsonObject> slow() throws InterruptedException {
        CompletableFuture<JsonObject> slow = submit("slow", "slow");
        Processes.await("it is asked", () -> events.contains(new Event.Warning("slow")));
        return slow;
    }

    @Test
    void oneProcessAnswersAllRequests() throws Exception {
        JsonObject first = value(submit("count", "a"));
        JsonObject second = value(submit("count", "b"));

        assertEquals(1, answered(first));
        assertEquals(2, answered(second));
        assertEquals(pid(first), pid(second));
        assertEquals("b", second.get("name").getAsString());
    }

    @Test
    void theNewestRequestWins() throws Exception {
        CompletableFuture<JsonObject> asked = slow();
        CompletableFuture<JsonObject> waiting = submit("count", "waiting");
        CompletableFuture<JsonObject> newest = submit("count", "newest");

        assertTrue(asked.isCancelled());
        assertTrue(waiting.isCancelled());
        Files.createFile(folder.resolve("go"));
        JsonObject value = value(newest);
        assertEquals("newest", value.get("name").getAsString());
        assertTrue(answered(value) <= 2, "the waiting one was never asked");
    }

    @Test
    void anOvertakenRequestThatTakesLongIsEnded() throws Exception {
        slow();
        JsonObject value = value(submit("count", "newest"));

        assertEquals(1, answered(value), "another process answers");
    }

    @Test
    void aProcessThatDiedIsStartedAgain() throws Exception {
        JsonObject first = value(submit("answer-and-die", "a"));
        Processes.await("it dies", () -> !Processes.runs(pid(first)));
        JsonObject second = value(submit("count", "b"));

        assertNotEquals(pid(first), pid(second));
        assertEquals(1, answered(second));
    }

    @Test
    void aProcessThatIsDyingIsStartedAgain() throws Exception {
        for (int i = 0; i < 5; i++) {
            value(submit("answer-and-die", "a"));
            assertEquals("b", value(submit("count", "b")).get("name").getAsString());
        }
    }

    @Test
    void aRequestThatKillsPythonIsReportedAndTheNextOneWorks() throws Exception {
        value(submit("count", "a"));
        ExecutionException failed = assertThrows(ExecutionException.class, () -> value(submit("die", "b")));

        BridgeException failure = assertInstanceOf(BridgeException.class, failed.getCause());
        assertTrue(failure.getMessage().contains("MemoryError"), failure.getMessage());
        assertEquals(1, answered(value(submit("count", "c"))));
    }

    @Test
    void aFailureIsReportedAndTheProcessGoesOn() throws Exception {
        JsonObject first = value(submit("count", "a"));
        ExecutionException failed = assertThrows(ExecutionException.class, () -> value(submit("fail-in-event", "b")));

        assertEquals("OutputError", assertInstanceOf(BridgeException.class, failed.getCause()).kind());
        assertEquals(pid(first), pid(value(submit("count", "c"))));
    }

    @Test
    void aMissingPythonIsReportedWithEachRequest() {
        try (BridgeSession broken = new BridgeSession(temporary.resolve("none"), log::add)) {
            broken.warmUp();
            for (int i = 0; i < 2; i++) {
                ExecutionException failed = assertThrows(ExecutionException.class,
                        () -> value(broken.submit(Request.of("count"), events::add)));
                assertInstanceOf(BridgeException.class, failed.getCause());
            }
        }
    }

    @Test
    void aListenerThatFailsStopsNothing() throws Exception {
        JsonObject value = value(session.submit(Request.of("count"), event -> {
            throw new IllegalStateException("listener");
        }));

        assertEquals(1, answered(value));
    }

    @Test
    void closeCancelsAndEndsTheProcess() throws Exception {
        JsonObject first = value(submit("count", "a"));
        CompletableFuture<JsonObject> asked = slow();
        session.close();

        assertTrue(asked.isCancelled());
        assertThrows(CancellationException.class, () -> value(submit("count", "late")));
        Processes.await("it ends", () -> !Processes.runs(pid(first)));
        session.close();
    }

    @Test
    void closeEndsAProcessThatHasNothingToDo() throws Exception {
        JsonObject first = value(submit("count", "a"));
        session.close();

        Processes.await("it ends", () -> !Processes.runs(pid(first)));
    }

    @Test
    void warmUpStartsTheProcess() throws Exception {
        session.warmUp();
        Processes.await("it runs", () -> ProcessHandle.current().descendants().count() > 0);
        JsonObject value = value(submit("count", "a"));

        assertEquals(1, answered(value));
        assertFalse(events.isEmpty());
    }
}
