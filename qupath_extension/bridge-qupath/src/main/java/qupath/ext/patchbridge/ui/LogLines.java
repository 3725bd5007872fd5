package qupath.ext.patchbridge.ui;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

import qupath.ext.patchbridge.core.Strings;

/** Lines of one Python for QuPath's log, which keeps them all: after the first ones no more. */
public final class LogLines implements Consumer<String> {

    /** Lines that are passed on. */
    static final int MOST = 500;

    private final AtomicInteger count = new AtomicInteger();
    private final Consumer<String> log;

    /** Passes lines on to QuPath's log. */
    public LogLines() {
        this(Bridge::log);
    }

    LogLines(Consumer<String> log) {
        this.log = log;
    }

    @Override
    public void accept(String line) {
        int number = count.incrementAndGet();
        if (number <= MOST) {
            log.accept(line);
        } else if (number == MOST + 1) {
            log.accept(Strings.get("log.full"));
        }
    }
}
