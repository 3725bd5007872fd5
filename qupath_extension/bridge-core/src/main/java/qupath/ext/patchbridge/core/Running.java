package qupath.ext.patchbridge.core;

/**
 * Work in processes beside QuPath.
 *
 * @param <T> what comes out
 */
public interface Running<T> {

    /**
     * Waits for the end of the work. Never call it in the thread of the user interface.
     *
     * @throws BridgeException if the work failed or was cancelled
     * @throws InterruptedException if the waiting thread is interrupted; the work goes on
     */
    T result() throws BridgeException, InterruptedException;

    /**
     * Ends the work with all its processes. Returns at once; {@link #result()} then fails with a
     * cancelled exception within 5 seconds. Does nothing after the end.
     */
    void cancel();

    /** Tells whether the work came to its end. */
    boolean isDone();
}
