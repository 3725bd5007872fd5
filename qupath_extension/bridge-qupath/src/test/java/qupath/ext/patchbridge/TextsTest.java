package qupath.ext.patchbridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.ResourceBundle;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** All texts stand in the bundle, and all texts of the bundle are used. */
class TextsTest {

    private static final ResourceBundle BUNDLE =
            ResourceBundle.getBundle("qupath.ext.patchbridge.strings");
    private static final Pattern LITERAL = Pattern.compile("\"([a-z-]+\\.[A-Za-z._-]*)\"");
    private static final Set<String> GROUPS = Set.of("menu", "images", "scripts", "window",
            "progress", "setup-window", "export", "preview", "unsaved", "runs", "tiles", "review",
            "corrections", "history");

    private static Set<String> literals() throws IOException {
        Set<String> found = new TreeSet<>();
        try (Stream<Path> files = Files.walk(Path.of("src/main/java"))) {
            for (Path file : files.filter(each -> each.toString().endsWith(".java")).toList()) {
                Matcher matcher = LITERAL.matcher(Files.readString(file));
                while (matcher.find()) {
                    found.add(matcher.group(1));
                }
            }
        }
        found.removeIf(key -> !GROUPS.contains(key.substring(0, key.indexOf('.'))));
        return found;
    }

    @Test
    void everyTextThatIsUsedIsThere() throws IOException {
        List<String> missing = literals().stream().filter(key -> key.endsWith(".")
                ? BUNDLE.keySet().stream().noneMatch(each -> each.startsWith(key))
                : !BUNDLE.containsKey(key)).toList();
        assertEquals(List.of(), missing);
        assertTrue(literals().size() > 100);
    }

    @Test
    void everyTextThatIsThereIsUsed() throws IOException {
        Set<String> used = literals();
        List<String> unused = BUNDLE.keySet().stream()
                .filter(key -> GROUPS.contains(key.substring(0, key.indexOf('.'))))
                .filter(key -> !used.contains(key) && used.stream().noneMatch(each ->
                        each.endsWith(".") && key.startsWith(each)
                                || key.equals(each + ".hint")
                                || each.equals("runs.") && key.startsWith("runs.")))
                .sorted().toList();
        assertEquals(List.of(), unused);
    }
}
