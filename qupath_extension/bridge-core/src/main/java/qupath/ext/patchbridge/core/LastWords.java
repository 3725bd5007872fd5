package qupath.ext.patchbridge.core;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Locale;

/** The last lines that a process wrote, for the report of its end. May be used by several threads. */
final class LastWords {

    private static final int LINES = 30;
    private static final int LONGEST = 2000;

    private final Deque<String> lines = new ArrayDeque<>();

    synchronized void add(String line) {
        if (line.isBlank()) {
            return;
        }
        lines.addLast(line.length() > LONGEST ? line.substring(0, LONGEST) + "…" : line);
        if (lines.size() > LINES) {
            lines.removeFirst();
        }
    }

    /** Returns the very last line; empty if there is none. */
    synchronized String last() {
        return lines.isEmpty() ? "" : lines.getLast().strip();
    }

    /** Returns the last line that names an error, or else the very last one. */
    synchronized String reason() {
        String reason = last();
        for (String line : lines) {
            if (line.strip().toLowerCase(Locale.ROOT).startsWith("error")) {
                reason = line.strip();
            }
        }
        return reason;
    }

    /** Returns all kept lines as one text. */
    synchronized String text() {
        return String.join("\n", lines);
    }
}
