package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.util.function.Consumer;

/** Reads the lines of a stream with bounded memory, whatever a process writes. */
final class BoundedLines {

    /** Characters of a line that are kept; what comes after them is left out. */
    static final int LONGEST = 1 << 16;

    private BoundedLines() {
    }

    /**
     * Reads a stream of UTF-8 text to its end. Bytes that are no UTF-8 become U+FFFD.
     *
     * @param lines called with each line, without its end
     */
    static void read(InputStream stream, Consumer<String> lines) throws IOException {
        Reader reader = new InputStreamReader(stream, StandardCharsets.UTF_8);
        StringBuilder line = new StringBuilder();
        boolean started = false;
        char[] buffer = new char[8192];
        for (int count = reader.read(buffer); count >= 0; count = reader.read(buffer)) {
            for (int i = 0; i < count; i++) {
                if (buffer[i] == '\n') {
                    lines.accept(withoutReturn(line));
                    line.setLength(0);
                    started = false;
                } else {
                    started = true;
                    if (line.length() < LONGEST) {
                        line.append(buffer[i]);
                    }
                }
            }
        }
        if (started) {
            lines.accept(withoutReturn(line));
        }
    }

    private static String withoutReturn(StringBuilder line) {
        int length = line.length();
        return length > 0 && line.charAt(length - 1) == '\r' ? line.substring(0, length - 1) : line.toString();
    }
}
