package qupath.ext.patchbridge.core;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * What a Python says of itself.
 *
 * @param version of the package qupath-bridge in it
 * @param python path of the interpreter, as it names itself
 * @param problems what does not work there, one sentence each
 */
public record BridgeCheck(String version, String python, List<String> problems) {

    /**
     * Asks a Python who it is. Its result fails with a {@link BridgeException} of the kind
     * {@code VersionError} if the package is not of the extension's version; the hint says how to
     * cure it.
     *
     * @param python an interpreter, or the program {@code qupath-bridge}
     * @param log called with each line that Python writes, in threads of this package
     */
    public static Running<BridgeCheck> start(Path python, Consumer<String> log) {
        return Work.start("check", work -> run(work, python, log));
    }

    static BridgeCheck run(Work<?> work, Path python, Consumer<String> log)
            throws BridgeException, InterruptedException {
        RunningRequest request = BridgeProcess.start(python, Request.of("check"), event -> { }, log);
        work.onCancel(request::cancel);
        return of(request.result(), python, BridgeVersion.current());
    }

    /**
     * Reads the value of the request {@code check}.
     *
     * @param wanted version of the extension
     * @throws BridgeException of the kind {@code VersionError} if protocol or version are others
     */
    static BridgeCheck of(JsonObject value, Path python, String wanted) throws BridgeException {
        String version = Json.text(value, "version");
        if (version == null) {
            throw new BridgeException("PythonError", Strings.get("error.check", python),
                    Strings.get("error.python.hint"), value.toString());
        }
        if (!version.equals(wanted) || (int) Json.number(value, "protocol") != Request.PROTOCOL) {
            throw new BridgeException("VersionError", Strings.get("error.version", python, version, wanted),
                    Strings.get("error.version.hint"), value.toString());
        }
        return new BridgeCheck(version, Json.text(value, "python"), texts(value.get("problems")));
    }

    private static List<String> texts(JsonElement array) {
        List<String> texts = new ArrayList<>();
        if (array instanceof JsonArray elements) {
            elements.forEach(element ->
                    texts.add(element.isJsonPrimitive() ? element.getAsString() : element.toString()));
        }
        return List.copyOf(texts);
    }
}
