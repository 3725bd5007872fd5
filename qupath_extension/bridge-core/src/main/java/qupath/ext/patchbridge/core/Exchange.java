package qupath.ext.patchbridge.core;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** The two files of a request, in a temporary folder of their own: what is asked, and the answer. */
final class Exchange implements AutoCloseable {

    private final Path folder;

    private Exchange(Path folder) {
        this.folder = folder;
    }

    /**
     * Writes a request.
     *
     * @throws BridgeException if the folder for temporary files cannot be written to
     */
    static Exchange write(Request request) throws BridgeException {
        try {
            Exchange exchange = new Exchange(Files.createTempDirectory("patch-bridge-"));
            Files.writeString(exchange.requestFile(), request.toJson(exchange.resultFile()));
            return exchange;
        } catch (IOException e) {
            throw new BridgeException("RequestError", Strings.get("error.request-file", e.getMessage()),
                    Strings.get("error.request-file.hint", System.getProperty("java.io.tmpdir")), null);
        }
    }

    Path requestFile() {
        return folder.resolve("request.json");
    }

    private Path resultFile() {
        return folder.resolve("result.json");
    }

    /** Tells whether the answer is there. It is written all or nothing. */
    boolean isAnswered() {
        return Files.isRegularFile(resultFile());
    }

    /**
     * Reads the answer.
     *
     * @return the value of the request
     * @throws BridgeException if the request failed, or the answer cannot be read
     */
    JsonObject answer() throws BridgeException {
        String text;
        try {
            text = Files.readString(resultFile());
        } catch (IOException e) {
            throw unreadable(e.toString());
        }
        JsonObject answer = Json.object(text).orElseThrow(() -> unreadable(text));
        JsonElement value = answer.get("value");
        if (value instanceof JsonObject object) {
            return object;
        }
        if (answer.get("error") instanceof JsonObject error) {
            throw failed(EventReader.failure(error));
        }
        throw unreadable(text);
    }

    /** Returns the exception that says what an event says. */
    static BridgeException failed(Event.Failure failure) {
        return new BridgeException(failure.kind(), failure.message(), failure.hint(), failure.details());
    }

    private static BridgeException unreadable(String text) {
        return new BridgeException("RequestError", Strings.get("error.answer"), Strings.get("error.version.hint"),
                text.substring(0, Math.min(text.length(), 2000)));
    }

    /** Removes both files. */
    @Override
    public void close() {
        removeTree(folder);
    }

    /** Removes a folder with all that is in it, as far as the system allows. */
    static void removeTree(Path folder) {
        List<Path> paths;
        try (Stream<Path> tree = Files.walk(folder)) {
            paths = tree.sorted(Comparator.reverseOrder()).toList();
        } catch (IOException | UncheckedIOException e) {
            return;
        }
        for (Path path : paths) {
            try {
                Files.deleteIfExists(path);
            } catch (IOException e) {
                // The folder is a temporary one: what cannot be removed now stays there.
                continue;
            }
        }
    }
}
