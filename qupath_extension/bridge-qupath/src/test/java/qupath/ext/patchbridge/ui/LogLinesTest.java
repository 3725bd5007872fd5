package qupath.ext.patchbridge.ui;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class LogLinesTest {

    @Test
    void theFirstLinesArePassedOnAndThenASentence() {
        List<String> log = new ArrayList<>();
        LogLines lines = new LogLines(log::add);
        for (int number = 1; number <= 100_000; number++) {
            lines.accept("line " + number);
        }
        assertEquals(LogLines.MOST + 1, log.size());
        assertEquals("line " + LogLines.MOST, log.get(LogLines.MOST - 1));
        assertFalse(log.get(LogLines.MOST).startsWith("line"));
    }
}
