package qupath.ext.patchbridge.core;

import java.nio.file.Path;

/** Something that Python says while it works on a request: one JSON line on its output. */
public sealed interface Event {

    /** The first event: which version of the package answers, and the path of its interpreter. */
    record Start(int protocol, String version, String python) implements Event {
    }

    /**
     * How far the work is.
     *
     * @param done patches written
     * @param total patches to write; 0 as long as nobody knows
     * @param slidesDone images finished
     * @param slides images in all
     * @param slide name of an image in work; null for none
     * @param rate patches per second
     */
    record Progress(long done, long total, long slidesDone, long slides, String slide, double rate)
            implements Event {
    }

    /** Nothing is new; Python writes it to see whether somebody still reads. */
    record Alive() implements Event {
    }

    /** Something that people have to know, although the work goes on. */
    record Warning(String text) implements Event {
    }

    /** The work is done; the file has its value. */
    record Result(Path file) implements Event {
    }

    /** The work failed. Hint and details may be null. */
    record Failure(String kind, String message, String hint, String details) implements Event {
    }
}
