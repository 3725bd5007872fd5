package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** The Python package that the jar carries: a wheel of the extension's version. */
final class BundledWheel {

    private BundledWheel() {
    }

    private static String fileName() {
        return "qupath_bridge-" + BridgeVersion.current() + "-py3-none-any.whl";
    }

    /**
     * Copies the wheel into a folder.
     *
     * @return the copy; pip reads version and platform from its name
     * @throws BridgeException if this jar was built without a wheel, or the folder cannot be written to
     */
    static Path copyTo(Path folder) throws BridgeException {
        Path file = folder.resolve(fileName());
        try (InputStream stream = BundledWheel.class.getResourceAsStream("wheel/" + fileName())) {
            if (stream == null) {
                throw new BridgeException("SetupError", Strings.get("error.wheel"),
                        Strings.get("error.wheel.hint", BridgeVersion.current()), null);
            }
            Files.copy(stream, file);
            return file;
        } catch (IOException e) {
            throw new BridgeException("SetupError", Strings.get("error.wheel.copy", e.getMessage()), null, e.toString());
        }
    }
}
