package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class BridgeCheckTest {

    private static final Path PYTHON = Path.of("/p/python");

    private static JsonObject value(String json) {
        return JsonParser.parseString(json).getAsJsonObject();
    }

    private static BridgeException failure(String json) {
        return assertThrows(BridgeException.class, () -> BridgeCheck.of(value(json), PYTHON, "0.1.0"));
    }

    @Test
    void theSameVersionIsAccepted() throws Exception {
        assertEquals(new BridgeCheck("0.1.0", "/p/python", List.of("no reader for CZI")), BridgeCheck.of(
                value("{\"version\":\"0.1.0\",\"protocol\":1,\"python\":\"/p/python\",\"problems\":[\"no reader for CZI\"]}"),
                PYTHON, "0.1.0"));
    }

    @Test
    void anotherVersionIsNamedWithItsCure() {
        BridgeException failure = failure("{\"version\":\"0.2.0\",\"protocol\":1,\"python\":\"/p/python\"}");

        assertEquals("VersionError", failure.kind());
        assertEquals("/p/python has qupath-bridge 0.2.0, but this extension is 0.1.0.", failure.getMessage());
        assertTrue(failure.hint().contains("Set up"));
    }

    @Test
    void anotherProtocolIsAnotherVersion() {
        assertEquals("VersionError", failure("{\"version\":\"0.1.0\",\"protocol\":2}").kind());
    }

    @Test
    void anAnswerOfSomethingElseIsNamed() {
        assertTrue(failure("{}").getMessage().contains("/p/python"));
    }
}
