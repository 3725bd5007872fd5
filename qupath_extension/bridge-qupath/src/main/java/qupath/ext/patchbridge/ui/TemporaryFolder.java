package qupath.ext.patchbridge.ui;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** A folder for files that Python and QuPath exchange; it goes when it is closed. */
public final class TemporaryFolder implements AutoCloseable {

    private Path folder;

    /**
     * Returns the path of a file in the folder.
     *
     * @throws IOException if the folder cannot be made
     */
    public synchronized Path file(String name) throws IOException {
        if (folder == null) {
            folder = Files.createTempDirectory("patch-bridge-");
        }
        return folder.resolve(name);
    }

    @Override
    public synchronized void close() {
        if (folder == null) {
            return;
        }
        try (Stream<Path> files = Files.walk(folder)) {
            List<Path> all = files.sorted(Comparator.reverseOrder()).toList();
            for (Path file : all) {
                Files.deleteIfExists(file);
            }
        } catch (IOException error) {
            Bridge.log(error.toString());  // the system clears its temporary files
        }
        folder = null;
    }
}
