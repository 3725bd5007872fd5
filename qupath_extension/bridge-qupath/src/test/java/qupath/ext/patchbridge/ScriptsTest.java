package qupath.ext.patchbridge;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class ScriptsTest {

    private static final Path FOLDER = Path.of("../../groovy_scripts");

    @Test
    void theMenuHasEveryScriptAsItIs() throws IOException {
        try (Stream<Path> files = Files.list(FOLDER)) {
            List<String> names = files.map(each -> each.getFileName().toString())
                    .filter(each -> each.endsWith(".groovy")).sorted().toList();
            assertEquals(names,
                    Scripts.NAMES.stream().map(each -> each + ".groovy").sorted().toList());
        }
        for (String name : Scripts.NAMES) {
            assertEquals(Files.readString(FOLDER.resolve(name + ".groovy")), Scripts.text(name));
        }
    }
}
