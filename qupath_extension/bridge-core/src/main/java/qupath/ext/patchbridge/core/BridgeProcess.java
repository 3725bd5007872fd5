package qupath.ext.patchbridge.core;

import java.nio.file.Path;
import java.util.function.Consumer;

/** Asks Python once, in a process of its own. */
public final class BridgeProcess {

    private BridgeProcess() {
    }

    /**
     * Starts Python on a request.
     *
     * @param python an interpreter, or the program {@code qupath-bridge}
     * @param request what to do
     * @param events called with each event, in a thread of this package
     * @param log called with each line that is no event, in a thread of this package
     * @throws BridgeException if the program cannot be started
     */
    public static RunningRequest start(
            Path python, Request request, Consumer<Event> events, Consumer<String> log)
            throws BridgeException {
        throw new UnsupportedOperationException();
    }
}
