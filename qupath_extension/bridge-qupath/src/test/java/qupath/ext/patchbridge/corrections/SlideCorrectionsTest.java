package qupath.ext.patchbridge.corrections;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import java.util.List;
import org.junit.jupiter.api.Test;

class SlideCorrectionsTest {

    private static SlideCorrections slide(String items, String messages, String problem) {
        return SlideCorrections.list(JsonParser.parseString("{\"slides\": [{\"entry\": \"3\", "
                + "\"slide_name\": \"s\", \"corrected\": 1, \"confirmed\": 2, \"rejected\": 3, "
                + "\"withdrawn\": 4, \"contested\": 5, \"unsure\": 0, \"items\": " + items
                + ", \"messages\": " + messages + ", \"problem\": " + problem
                + "}], \"agreement\": []}").getAsJsonObject()).get(0);
    }

    @Test
    void readsTheAnswerOfPython() {
        SlideCorrections slide = slide("[{\"patch\": \"p\", \"kind\": \"corrected\", "
                + "\"before\": \"A\", \"after\": null, \"reviewer\": \"Ü\", \"time\": \"t\"}]",
                "[\"m\"]", "\"x\"");
        assertEquals(List.of(new SlideCorrections.Item("p", "corrected", "A", "", "Ü", "t")),
                slide.items());
        assertEquals(List.of("m", "x"), slide.notes());
        assertEquals(List.of(1L, 2L, 3L, 5L), List.of(slide.corrected(), slide.confirmed(),
                slide.rejected(), slide.contested()));
        assertFalse(slide.isEmpty());
    }

    @Test
    void anImageWithoutStatementsIsEmpty() {
        assertTrue(slide("[]", "[]", "null").isEmpty());
        assertFalse(slide("[]", "[]", "\"x\"").isEmpty());
    }
}
