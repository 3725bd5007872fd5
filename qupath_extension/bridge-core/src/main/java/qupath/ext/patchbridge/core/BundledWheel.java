package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** The Python package that the jar carries. */
final class BundledWheel {

    private BundledWheel() {
    }

    private static String fileName(String version) {
        return "qupath_bridge-" + version + "-py3-none-any.whl";
    }

    /**
     * Copies the wheel of a version into a folder.
     *
     * @return the copy; pip reads version and platform from its name
     * @throws BridgeException if this jar was built without that wheel, or the folder cannot be written to
     */
    static Path copyTo(Path folder, String version) throws BridgeException {
        Path file = folder.resolve(fileName(version));
        try (InputStream stream = BundledWheel.class.getResourceAsStream("wheel/" + fileName(version))) {
            if (stream == null) {
                throw new BridgeException("SetupError", Strings.get("error.wheel"),
                        Strings.get("error.wheel.hint", version), null);
            }
            Files.copy(stream, file);
            return file;
        } catch (IOException e) {
            throw new BridgeException(
                    "SetupError", Strings.get("error.wheel.copy", e.getMessage()), null, e.toString());
        }
    }
}
