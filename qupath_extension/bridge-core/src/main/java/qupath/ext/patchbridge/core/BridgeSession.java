package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Keeps one Python for requests that have to be answered at once, such as previews.
 *
 * <p>The newest request wins: a new one cancels all older ones. A Python that died is started again
 * with the next request. All methods return at once and may be called in any thread.
 */
public final class BridgeSession implements AutoCloseable {

    /** Time that a cancelled request may still take before its Python is ended to make room. */
    static final Duration PATIENCE = Duration.ofMillis(1500);

    private static final Duration POLL = Duration.ofMillis(20);

    private final Path python;
    private final Consumer<String> log;

    private Job next;
    private Job current;
    private long overtaken;
    private boolean wanted;
    private boolean closed;

    // The worker's own.
    private ChildProcess child;
    private BlockingQueue<Event> answers;

    private record Job(Request request, Consumer<Event> events, CompletableFuture<JsonObject> outcome) {
    }

    /**
     * Makes a session; Python starts with the first request or with {@link #warmUp()}.
     *
     * @param python an interpreter, or the program {@code qupath-bridge}
     * @param log called with each line that is no event, in threads of this package
     */
    public BridgeSession(Path python, Consumer<String> log) {
        this.python = python;
        this.log = log;
        Threads.start("patch-bridge-session", this::work);
    }

    /** Starts Python, so that the first request finds everything imported. */
    public synchronized void warmUp() {
        wanted = true;
        notifyAll();
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
        Job job = new Job(request, events, new CompletableFuture<>());
        Job waiting;
        Job asked;
        synchronized (this) {
            if (closed) {
                job.outcome.cancel(false);
                return job.outcome;
            }
            waiting = next;
            asked = current;
            next = job;
            if (asked != null && overtaken == 0) {
                overtaken = System.nanoTime();
            }
            notifyAll();
        }
        cancel(waiting);
        cancel(asked);
        return job.outcome;
    }

    /** Ends Python. Requests without an answer are cancelled. May be called twice. */
    @Override
    public void close() {
        Job waiting;
        Job asked;
        synchronized (this) {
            closed = true;
            waiting = next;
            asked = current;
            next = null;
            notifyAll();
        }
        cancel(waiting);
        cancel(asked);
    }

    private static void cancel(Job job) {
        if (job != null) {
            job.outcome.cancel(false);
        }
    }

    private void work() {
        try {
            while (awaitWork()) {
                answer();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            endChild();
        }
    }

    /** Waits for something to do and makes it the current job; returns false if the session is closed. */
    private synchronized boolean awaitWork() throws InterruptedException {
        current = null;
        overtaken = 0;
        while (!closed && next == null && !wanted) {
            wait();
        }
        wanted = false;
        current = next;
        next = null;
        return !closed;
    }

    private void answer() throws InterruptedException {
        Job job = current;
        try {
            answer(job);
        } catch (BridgeException | RuntimeException e) {
            if (job != null) {
                job.outcome.completeExceptionally(e);
            }
            // Without a job this was a warm-up: the first request meets the same fault and tells it.
        }
    }

    private void answer(Job job) throws BridgeException, InterruptedException {
        boolean old = child != null;
        if (!old) {
            startChild();
        }
        if (job == null) {
            return;
        }
        try (Exchange exchange = Exchange.write(job.request)) {
            boolean done = ask(job, exchange);
            if (!done && old) {
                // It may have died of an earlier request, or idle: a new one gets its chance.
                startChild();
                done = ask(job, exchange);
            }
            if (!done) {
                throw Ended.withoutAnswer(python, child.waitFor(), child.lastWords());
            }
        }
    }

    /** Sends a request and waits for its answer; returns false if Python died before it. */
    private boolean ask(Job job, Exchange exchange) throws BridgeException, InterruptedException {
        answers.clear();
        try {
            child.input().write((exchange.requestFile() + "\n").getBytes(StandardCharsets.UTF_8));
            child.input().flush();
        } catch (IOException e) {
            return false;
        }
        while (true) {
            boolean alive = child.isAlive();
            if (!alive) {
                child.waitFor();
            }
            Event event = answers.poll(alive ? POLL.toMillis() : 0, TimeUnit.MILLISECONDS);
            if (event instanceof Event.Result || event instanceof Event.Failure) {
                finish(job, exchange, event);
                return true;
            }
            if (event != null) {
                pass(job, event);
            } else if (!alive) {
                return false;
            }
            if (isGivenUp()) {
                endChild();
                return true;
            }
        }
    }

    private static void finish(Job job, Exchange exchange, Event event) throws BridgeException {
        if (exchange.isAnswered()) {
            job.outcome.complete(exchange.answer());
        } else if (event instanceof Event.Failure failure) {
            throw Exchange.failed(failure);
        } else {
            exchange.answer();
        }
    }

    private void pass(Job job, Event event) {
        try {
            job.events.accept(event);
        } catch (RuntimeException e) {
            log.accept(e.toString());
        }
    }

    private synchronized boolean isGivenUp() {
        return closed || (overtaken != 0 && System.nanoTime() - overtaken > PATIENCE.toNanos());
    }

    private void startChild() throws BridgeException {
        Ended.checkProgram(python);
        BlockingQueue<Event> queue = new LinkedBlockingQueue<>();
        try {
            child = ChildProcess.start(
                    PythonCommand.bridge(python, "request", "-"),
                    PythonCommand.environment(System.getenv(), python), null,
                    line -> EventReader.read(line).ifPresentOrElse(queue::add, () -> log.accept(line)), log);
        } catch (IOException e) {
            throw Ended.notStarted(python, e);
        }
        answers = queue;
    }

    private void endChild() {
        if (child != null) {
            child.closeInput();
            child.end();
        }
        child = null;
    }
}
