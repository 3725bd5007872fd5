package qupath.ext.patchbridge.core;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/**
 * Work in a thread of its own that can be cancelled.
 *
 * @param <T> what comes out
 */
final class Work<T> implements Running<T> {

    /** What is done; it may fail, and tells how it is ended. */
    @FunctionalInterface
    interface Task<T> {
        T run(Work<T> work) throws BridgeException, InterruptedException;
    }

    private final CompletableFuture<T> outcome = new CompletableFuture<>();
    private boolean cancelled;
    private Runnable onCancel;

    private Work() {
    }

    static <T> Work<T> start(String name, Task<T> task) {
        Work<T> work = new Work<>();
        Threads.start("patch-bridge-" + name, () -> work.run(task));
        return work;
    }

    private void run(Task<T> task) {
        try {
            T value = task.run(this);
            outcome.complete(value);
        } catch (BridgeException e) {
            outcome.completeExceptionally(isCancelled() ? BridgeException.cancelled() : e);
        } catch (InterruptedException | RuntimeException | Error e) {
            outcome.completeExceptionally(e);
        }
    }

    /**
     * Names what ends the step that begins now. It runs at once, in this thread, if the work is
     * cancelled already.
     */
    void onCancel(Runnable end) {
        synchronized (this) {
            onCancel = end;
            if (!cancelled) {
                return;
            }
        }
        end.run();
    }

    /**
     * Marks a place where nothing has to be ended.
     *
     * @throws BridgeException if the work is cancelled
     */
    void checkCancelled() throws BridgeException {
        if (isCancelled()) {
            throw BridgeException.cancelled();
        }
    }

    private synchronized boolean isCancelled() {
        return cancelled;
    }

    @Override
    public void cancel() {
        Runnable end;
        synchronized (this) {
            if (cancelled || outcome.isDone()) {
                return;
            }
            cancelled = true;
            end = onCancel;
        }
        if (end != null) {
            Threads.start("patch-bridge-cancel", end);
        }
    }

    @Override
    public boolean isDone() {
        return outcome.isDone();
    }

    @Override
    public T result() throws BridgeException, InterruptedException {
        try {
            return outcome.get();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof BridgeException failure) {
                throw failure;
            }
            throw new IllegalStateException(e.getCause());
        }
    }
}
