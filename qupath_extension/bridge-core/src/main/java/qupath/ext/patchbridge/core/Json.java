package qupath.ext.patchbridge.core;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.TypeAdapter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;

/** Reading JSON that another program wrote. */
final class Json {

    private static final TypeAdapter<JsonElement> STRICT = new Gson().getAdapter(JsonElement.class);

    private Json() {
    }

    /** Returns the JSON object of a text; empty if the text is anything else. */
    static Optional<JsonObject> object(String text) {
        try {
            JsonElement element = STRICT.fromJson(text);
            return element instanceof JsonObject object ? Optional.of(object) : Optional.empty();
        } catch (IOException | JsonParseException | IllegalStateException e) {
            return Optional.empty();
        }
    }

    /** Returns a text field, or null. */
    static String text(JsonObject object, String field) {
        JsonElement value = object.get(field);
        return value instanceof JsonPrimitive primitive ? primitive.getAsString() : null;
    }

    /** Returns a number field; 0 if it is missing, null or no number. */
    static double number(JsonObject object, String field) {
        JsonElement value = object.get(field);
        return value instanceof JsonPrimitive primitive && primitive.isNumber() ? primitive.getAsDouble() : 0;
    }

    /** Returns a field that is a path, or null. */
    static Path path(JsonObject object, String field) {
        String text = text(object, field);
        return text == null ? null : Path.of(text);
    }
}
