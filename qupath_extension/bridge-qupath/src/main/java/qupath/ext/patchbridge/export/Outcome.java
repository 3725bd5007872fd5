package qupath.ext.patchbridge.export;

import java.util.ArrayList;
import java.util.List;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;

import qupath.ext.patchbridge.core.Strings;

/** Says in a few lines what an export did. */
final class Outcome {

    private Outcome() {
    }

    /** Returns the lines for the value of an export. */
    static String of(JsonObject value) {
        List<String> lines = new ArrayList<>();
        lines.add(Strings.get("export.done", value.get("written").getAsLong(),
                value.get("out").getAsString()));
        JsonObject corrections = value.has("corrections") && value.get("corrections").isJsonObject()
                ? value.getAsJsonObject("corrections") : new JsonObject();
        long applied = number(corrections, "applied");
        if (applied > 0) {
            lines.add(Strings.get("export.corrected", applied));
        }
        if (number(corrections, "unsure") > 0) {
            lines.add(Strings.get("export.unsure", number(corrections, "unsure")));
        }
        value.getAsJsonArray("warnings").forEach(each -> lines.add(text(each)));
        value.getAsJsonArray("failures").forEach(each -> lines.add(failure(each)));
        return String.join("\n", lines);
    }

    private static long number(JsonObject object, String name) {
        JsonElement value = object.get(name);
        return value == null || !value.isJsonPrimitive() ? 0 : value.getAsLong();
    }

    private static String text(JsonElement element) {
        return element.isJsonPrimitive() ? element.getAsString() : element.toString();
    }

    private static String failure(JsonElement element) {
        if (!element.isJsonObject()) {
            return text(element);
        }
        JsonObject failure = element.getAsJsonObject();
        String name = failure.has("slide_name") ? text(failure.get("slide_name")) : "?";
        String error = failure.has("error") ? text(failure.get("error")) : failure.toString();
        return Strings.get("export.failed", name, error);
    }
}
