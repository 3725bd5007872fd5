package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.nio.file.InvalidPathException;
import java.util.Optional;

/** Makes events of the lines that Python writes. */
final class EventReader {

    private EventReader() {
    }

    /** Returns the event of a line; empty if the line is none, such as a broken one. */
    static Optional<Event> read(String line) {
        if (!line.startsWith("{")) {
            return Optional.empty();
        }
        return Json.object(line).map(EventReader::event);
    }

    /** Returns null for events that this version does not know. */
    private static Event event(JsonObject object) {
        String name = Json.text(object, "event");
        if (name == null) {
            return null;
        }
        return switch (name) {
            case "start" -> new Event.Start((int) Json.number(object, "protocol"),
                    Json.text(object, "version"), Json.text(object, "python"));
            case "progress" -> new Event.Progress(
                    (long) Json.number(object, "done"), (long) Json.number(object, "total"),
                    (long) Json.number(object, "slides_done"), (long) Json.number(object, "slides"),
                    Json.text(object, "slide"), Json.number(object, "rate"));
            case "alive" -> new Event.Alive();
            case "warning" -> new Event.Warning(Json.text(object, "text"));
            case "result" -> result(object);
            case "error" -> failure(object);
            default -> null;
        };
    }

    private static Event result(JsonObject object) {
        try {
            return new Event.Result(Json.path(object, "file"));
        } catch (InvalidPathException e) {
            return null;
        }
    }

    /** Returns the failure that an object with kind, message, hint and details describes. */
    static Event.Failure failure(JsonObject object) {
        String kind = Json.text(object, "kind");
        String message = Json.text(object, "message");
        return new Event.Failure(
                kind == null ? "Error" : kind,
                message == null ? Strings.get("error.without-message") : message,
                Json.text(object, "hint"),
                Json.text(object, "details"));
    }
}
