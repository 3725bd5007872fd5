package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * A process whose output is read at once in threads of its own: a full pipe would stop it, and what
 * it wrote last explains its end. No shell is involved, so nothing has to be quoted.
 */
final class ChildProcess {

    /** Time for the readers to reach the end after the process ended; a grandchild may hold a pipe. */
    private static final Duration READERS = Duration.ofMillis(1500);

    /** How a line of standard output begins that is an event. */
    private static final String EVENT = "{\"event\"";

    private final Process process;
    private final LastWords lastWords = new LastWords();
    private final Thread output;
    private final Thread messages;

    private ChildProcess(Process process, Consumer<String> onOutput, Consumer<String> onMessage) {
        this.process = process;
        this.output = reader("output", process.getInputStream(), onOutput);
        this.messages = reader("messages", process.getErrorStream(), onMessage);
    }

    /**
     * Starts a program.
     *
     * @param command program and arguments
     * @param environment all variables of the process
     * @param folder to work in; null for that of QuPath
     * @param onOutput called with each line of the standard output
     * @param onMessage called with each line of the standard error
     * @throws IOException if the program cannot be started
     */
    static ChildProcess start(
            List<String> command,
            Map<String, String> environment,
            Path folder,
            Consumer<String> onOutput,
            Consumer<String> onMessage)
            throws IOException {
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().clear();
        builder.environment().putAll(environment);
        if (folder != null) {
            builder.directory(folder.toFile());
        }
        Process process = builder.start();
        ProcessTree.watch(process);
        return new ChildProcess(process, onOutput, onMessage);
    }

    private Thread reader(String name, InputStream stream, Consumer<String> lines) {
        Consumer<String> each = line -> {
            // An event says nothing of the end, and may be read later than the message that does.
            if (!line.startsWith(EVENT)) {
                lastWords.add(line);
            }
            try {
                lines.accept(line);
            } catch (RuntimeException e) {
                // A reader that stops would stop the process: the fault of a listener is shown, no more.
                lastWords.add(e.toString());
            }
        };
        return Threads.start("patch-bridge-" + name, () -> {
            try (stream) {
                BoundedLines.read(stream, each);
            } catch (IOException e) {
                // The pipe of a process that was ended breaks: that is its end, too.
                lastWords.add(e.toString());
            }
        });
    }

    /** Returns the standard input of the process. */
    OutputStream input() {
        return process.getOutputStream();
    }

    /** Tells that nothing will come on the standard input. */
    void closeInput() {
        try {
            process.getOutputStream().close();
        } catch (IOException e) {
            // It ended before: the same.
            lastWords.add(e.toString());
        }
    }

    boolean isAlive() {
        return process.isAlive();
    }

    /** Waits for the end of the process and of its output, and returns its exit status. */
    int waitFor() throws InterruptedException {
        int status = process.waitFor();
        long end = System.nanoTime() + READERS.toNanos();
        for (Thread reader : List.of(output, messages)) {
            TimeUnit.NANOSECONDS.timedJoin(reader, end - System.nanoTime());
        }
        return status;
    }

    /** Waits for the end no longer than a time; returns whether it came. */
    boolean waitFor(Duration time) throws InterruptedException {
        return process.waitFor(time.toMillis(), TimeUnit.MILLISECONDS);
    }

    LastWords lastWords() {
        return lastWords;
    }

    /** Ends the process with all that it started. Takes up to the grace; returns at once if it ended. */
    void end() {
        ProcessTree.end(process, ProcessTree.GRACE);
    }
}
