package qupath.ext.patchbridge.ui;

import java.nio.file.Path;

import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.BridgeVersion;
import qupath.ext.patchbridge.core.Event;
import qupath.ext.patchbridge.core.Request;
import qupath.ext.patchbridge.core.Running;
import qupath.ext.patchbridge.core.Strings;

/** Stops a request if the Python that answers is not of the extension's version. */
public final class VersionGuard {

    private final Path python;
    private final String wanted;
    private BridgeException problem;
    private Running<?> running;

    /** Makes the guard of one request. */
    public VersionGuard(Path python) {
        this(python, BridgeVersion.current());
    }

    VersionGuard(Path python, String wanted) {
        this.python = python;
        this.wanted = wanted;
    }

    /** Takes an event of the request; may be called before {@link #watch}, in any thread. */
    public synchronized void check(Event event) {
        if (event instanceof Event.Start start && (start.protocol() != Request.PROTOCOL
                || !wanted.equals(start.version()))) {
            problem = new BridgeException("VersionError",
                    Strings.get("error.version", python, start.version(), wanted),
                    Strings.get("error.version.hint"), start.toString());
            stop();
        }
    }

    /** Takes the running request, which is cancelled if the version is another one. */
    public synchronized void watch(Running<?> request) {
        running = request;
        stop();
    }

    /** Returns the error to show for the request's own error: the version's comes first. */
    public synchronized BridgeException reason(BridgeException error) {
        return problem == null ? error : problem;
    }

    private void stop() {
        if (problem != null && running != null) {
            running.cancel();
        }
    }
}
