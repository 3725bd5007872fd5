package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicReference;
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
     * @param log called with each line that is no event, in threads of this package
     * @throws BridgeException if the program cannot be started
     */
    public static RunningRequest start(
            Path python, Request request, Consumer<Event> events, Consumer<String> log)
            throws BridgeException {
        Ended.checkProgram(python);
        Exchange exchange = Exchange.write(request);
        AtomicReference<Event.Failure> failure = new AtomicReference<>();
        Consumer<String> onOutput = line -> EventReader.read(line).ifPresentOrElse(event -> {
            if (event instanceof Event.Failure failed) {
                failure.set(failed);
            }
            events.accept(event);
        }, () -> log.accept(line));
        ChildProcess child;
        try {
            child = ChildProcess.start(
                    PythonCommand.bridge(python, "request", exchange.requestFile().toString()),
                    PythonCommand.environment(System.getenv(), python), null, onOutput, log);
        } catch (IOException e) {
            exchange.close();
            throw Ended.notStarted(python, e);
        }
        child.closeInput();
        return new Started(Work.start("request", work -> {
            work.onCancel(child::end);
            return finish(python, child, exchange, failure);
        }));
    }

    private static JsonObject finish(
            Path python, ChildProcess child, Exchange exchange, AtomicReference<Event.Failure> failure)
            throws BridgeException, InterruptedException {
        try (exchange) {
            int status = child.waitFor();
            if (exchange.isAnswered()) {
                return exchange.answer();
            }
            if (failure.get() != null) {
                throw Exchange.failed(failure.get());
            }
            throw Ended.withoutAnswer(python, status, child.lastWords());
        }
    }

    private record Started(Running<JsonObject> work) implements RunningRequest {

        @Override
        public JsonObject result() throws BridgeException, InterruptedException {
            return work.result();
        }

        @Override
        public void cancel() {
            work.cancel();
        }

        @Override
        public boolean isDone() {
            return work.isDone();
        }
    }
}
