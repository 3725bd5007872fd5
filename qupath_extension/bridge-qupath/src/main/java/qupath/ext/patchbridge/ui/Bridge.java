package qupath.ext.patchbridge.ui;

import java.nio.file.Path;
import java.util.Map;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

import com.google.gson.JsonObject;
import javafx.application.Platform;
import javafx.beans.property.StringProperty;
import javafx.stage.Window;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.BridgeProcess;
import qupath.ext.patchbridge.core.BridgeSession;
import qupath.ext.patchbridge.core.Event;
import qupath.ext.patchbridge.core.PythonLocator;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Running;
import qupath.ext.patchbridge.core.RunningRequest;
import qupath.ext.patchbridge.core.Strings;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.prefs.PathPrefs;

/** Lets windows ask Python: finds it, waits in the background, and answers in JavaFX's thread. */
public final class Bridge {

    private static final Logger LOGGER = LoggerFactory.getLogger("qupath.ext.patchbridge.python");

    private final QuPathGUI qupath;
    private final StringProperty reviewer =
            PathPrefs.createPersistentPreference("patchBridgeReviewer", "");

    /** Makes the bridge of a QuPath. */
    public Bridge(QuPathGUI qupath) {
        this.qupath = qupath;
    }

    /** Returns the QuPath that it belongs to. */
    public QuPathGUI qupath() {
        return qupath;
    }

    /** Returns the window of QuPath. */
    public Window window() {
        return qupath.getStage();
    }

    /** Returns the name under which patches are reviewed, which QuPath keeps; null if nobody gave one. */
    public String reviewer() {
        String name = reviewer.get();
        return name == null || name.isBlank() ? null : name.strip();
    }

    /** Sets the name under which patches are reviewed; blank for none. */
    public void setReviewer(String name) {
        reviewer.set(name == null ? "" : name);
    }

    /**
     * Returns the Python to ask.
     *
     * @throws BridgeException if none is set up; the hint names the menu item
     */
    public static Path python() throws BridgeException {
        Map<String, String> env = System.getenv();
        Path home = Path.of(System.getProperty("user.home"));
        return PythonLocator.find(env, home, null).map(PythonLocator.Found::python).orElseThrow(
                () -> new BridgeException("SetUp", Strings.get("error.no-python"),
                        Strings.get("error.no-python.hint"), null));
    }

    /** Returns a session for previews; the caller closes it. */
    public BridgeSession session() throws BridgeException {
        return new BridgeSession(python(), new LogLines());
    }

    /** Writes a line of Python to QuPath's log. */
    public static void log(String line) {
        LOGGER.info("[python] {}", line);
    }

    /**
     * Sends a request in the background.
     *
     * @param request what to do
     * @param events called with each event, in JavaFX's thread
     * @param done called once at the end, in JavaFX's thread: with the value, or with the error
     * @return what can be cancelled; null if Python could not be started (done is called too)
     */
    public RunningRequest send(Request request, Consumer<Event> events,
            BiConsumer<JsonObject, BridgeException> done) {
        try {
            Path python = python();
            VersionGuard guard = new VersionGuard(python);
            RunningRequest running = BridgeProcess.start(python, request.reviewer(reviewer()),
                    event -> {
                        guard.check(event);
                        Platform.runLater(() -> events.accept(event));
                    }, new LogLines());
            guard.watch(running);
            await(running, (value, error) -> {
                BridgeException reason = guard.reason(error);
                done.accept(reason == null ? value : null, reason);
            });
            return running;
        } catch (BridgeException error) {
            Platform.runLater(() -> done.accept(null, error));
            return null;
        }
    }

    /** Waits for work in a thread of its own, and hands its result over in JavaFX's thread. */
    public static <T> void await(Running<T> running, BiConsumer<T, BridgeException> done) {
        inBackground(() -> {
            try {
                T value = running.result();
                Platform.runLater(() -> done.accept(value, null));
            } catch (BridgeException error) {
                Platform.runLater(() -> done.accept(null, error));
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                running.cancel();
            }
        });
    }

    /** Runs work in a thread that does not keep QuPath from ending. */
    public static void inBackground(Runnable work) {
        Thread thread = new Thread(work, "patch-bridge");
        thread.setDaemon(true);
        thread.start();
    }
}
