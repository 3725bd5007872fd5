package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * Keeps one Python for requests that have to be answered at once, such as previews.
 *
 * <p>The newest request wins: a new one cancels all older ones. A Python that died is started again
 * with the next request. All methods return at once and may be called in any thread.
 */
public final class BridgeSession implements AutoCloseable {

    /**
     * Makes a session; Python starts with the first request or with {@link #warmUp()}.
     *
     * @param python an interpreter, or the program {@code qupath-bridge}
     * @param log called with each line that is no event, in a thread of this package
     */
    public BridgeSession(Path python, Consumer<String> log) {
        throw new UnsupportedOperationException();
    }

    /** Starts Python, so that the first request finds everything imported. */
    public void warmUp() {
        throw new UnsupportedOperationException();
    }

    /**
     * Asks Python.
     *
     * @param request what to do
     * @param events called with each event of this request, in a thread of this package
     * @return the request's value; a {@link BridgeException} if it failed; cancelled as soon as a
     *     newer request comes or the session is closed
     */
    public CompletableFuture<JsonObject> submit(Request request, Consumer<Event> events) {
        throw new UnsupportedOperationException();
    }

    /** Ends Python. Requests without an answer are cancelled. May be called twice. */
    @Override
    public void close() {
    }
}
