package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Optional;
import org.junit.jupiter.api.Test;

class EventReaderTest {

    @Test
    void aSignOfLifeIsNoLineForTheLog() {
        assertEquals(Optional.of(new Event.Alive()), EventReader.read("{\"event\": \"alive\"}"));
    }

    @Test
    void otherLinesAreNoEvents() {
        assertEquals(Optional.empty(), EventReader.read("{\"event\": \"of a later version\"}"));
        assertEquals(Optional.empty(), EventReader.read("alive"));
    }
}
