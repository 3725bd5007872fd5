package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;

/**
 * What a Python says of itself.
 *
 * @param version of the package qupath-bridge in it
 * @param python version of the interpreter
 * @param problems what does not work there, one sentence each
 */
public record BridgeCheck(String version, String python, List<String> problems) {

    /**
     * Asks a Python who it is.
     *
     * @throws BridgeException if it cannot be started
     */
    public static Running<BridgeCheck> start(Path python, Consumer<String> log) throws BridgeException {
        throw new UnsupportedOperationException();
    }

    /**
     * Reads the value of the request {@code check}.
     *
     * @throws BridgeException of the kind {@code VersionError} if protocol or version are not those of
     *     the extension; its hint says how to cure it
     */
    static BridgeCheck of(JsonObject value, Path python) throws BridgeException {
        throw new UnsupportedOperationException();
    }
}
