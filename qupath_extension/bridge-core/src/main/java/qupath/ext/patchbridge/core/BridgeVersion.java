package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Properties;

/** The version of the extension. It goes with the Python package of the same version. */
public final class BridgeVersion {

    private BridgeVersion() {
    }

    /** Returns the version, as {@code 0.1.0}. */
    public static String current() {
        Properties properties = new Properties();
        try (InputStream stream = BridgeVersion.class.getResourceAsStream("bridge.properties")) {
            properties.load(stream);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return properties.getProperty("version");
    }
}
