package qupath.ext.patchbridge.core;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.google.gson.JsonSerializer;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What Python is asked for; a value that does not change.
 *
 * <pre>{@code
 * Request.of("preview").project(path).with("entry", "1").with("options", Map.of("size", 256))
 * }</pre>
 *
 * <p>Values are texts, numbers, booleans, null, paths, lists, maps, records of those, and JSON.
 */
public final class Request {

    /** The version of the protocol that the extension speaks. */
    public static final int PROTOCOL = 1;

    private static final Gson GSON = new GsonBuilder()
            .serializeNulls()
            .disableHtmlEscaping()
            .registerTypeHierarchyAdapter(Path.class,
                    (JsonSerializer<Path>) (path, type, context) -> new JsonPrimitive(path.toString()))
            .create();

    private final Map<String, JsonElement> fields;

    private Request(Map<String, JsonElement> fields) {
        this.fields = Collections.unmodifiableMap(fields);
    }

    /** Returns a request for a command, such as {@code export}. */
    public static Request of(String command) {
        Map<String, JsonElement> fields = new LinkedHashMap<>();
        fields.put("protocol", new JsonPrimitive(PROTOCOL));
        fields.put("command", new JsonPrimitive(command));
        fields.put("reviewer", JsonNull.INSTANCE);
        return new Request(fields);
    }

    /** Returns this request for a project: the path of its {@code project.qpproj}. */
    public Request project(Path project) {
        return with("project", project);
    }

    /** Returns this request with the name of the person who reviews; null for none. */
    public Request reviewer(String name) {
        return with("reviewer", name);
    }

    /**
     * Returns this request with one more field, or with another value for it.
     *
     * @throws IllegalArgumentException if the value cannot be written as JSON, such as a number that
     *     is not finite
     */
    public Request with(String field, Object value) {
        Map<String, JsonElement> changed = new LinkedHashMap<>(fields);
        changed.put(field, GSON.toJsonTree(value));
        return new Request(changed);
    }

    /** Returns the command. */
    public String command() {
        return fields.get("command").getAsString();
    }

    /** Returns the JSON text that Python reads; the result goes to the file. */
    String toJson(Path result) {
        JsonObject object = new JsonObject();
        with("result", result).fields.forEach(object::add);
        return GSON.toJson(object);
    }

    @Override
    public String toString() {
        return GSON.toJson(fields);
    }
}
