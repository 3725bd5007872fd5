package qupath.ext.patchbridge.image;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class HistoryTest {

    @Test
    void textsStandInTheLineAsTheyAre() {
        assertEquals("qupath.ext.patchbridge.PatchBridge.exportPatches("
                        + "'C:\\\\Ü\\\\it\\'s $new', '{\"size\":256}')",
                History.line("exportPatches", "C:\\Ü\\it's $new", "{\"size\":256}"));
    }

    @Test
    void nothingIsNull() {
        assertEquals("qupath.ext.patchbridge.PatchBridge.showPatches(null)",
                History.line("showPatches", (String) null));
    }
}
