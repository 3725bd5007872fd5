package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SetupTest {

    @TempDir
    Path temporary;

    @Test
    void theFileIsInTheHomeFolderOrInTheOneNamed() {
        assertEquals(Path.of("/home/a/.qupath-bridge/setup.json"), Setup.file(Map.of(), Path.of("/home/a")));
        assertEquals(Path.of("/else/setup.json"),
                Setup.file(Map.of("QUPATH_BRIDGE_HOME", "/else"), Path.of("/home/a")));
    }

    @Test
    void whatIsSavedIsReadAgain() throws Exception {
        Path file = Processes.folder(temporary).resolve("new").resolve("setup.json");
        Setup setup = new Setup(file.resolveSibling("bin").resolve("python"), "0.1.0");
        setup.save(file);
        setup.save(file);

        assertEquals(Optional.of(setup), Setup.load(file));
        JsonObject object = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        assertEquals(List.of("python", "version"), List.copyOf(object.keySet()));
        assertEquals(setup.python().toString(), object.get("python").getAsString());
        try (Stream<Path> files = Files.list(file.getParent())) {
            assertEquals(List.of(file), files.toList());
        }
    }

    @Test
    void noFileIsNoSetup() throws Exception {
        assertEquals(Optional.empty(), Setup.load(temporary.resolve("setup.json")));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "{}", "{\"python\": \"/p\"}", "{\"python\": \"relative\", \"version\": \"1\"}",
        "{\"python\": null, \"version\": \"1\"}", "{\"python\": \"/p\\u0000\", \"version\": \"1\"}"})
    void aFileThatSaysSomethingElseIsNamed(String text) throws IOException {
        Path file = Files.writeString(temporary.resolve("setup.json"), text);
        BridgeException failure = assertThrows(BridgeException.class, () -> Setup.load(file));

        assertTrue(failure.getMessage().contains(file.toString()));
        assertTrue(failure.hint().contains("Set up"));
    }
}
