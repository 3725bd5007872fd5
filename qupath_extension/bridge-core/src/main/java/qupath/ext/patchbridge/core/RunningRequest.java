package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;

/** A request that Python works on; its result is the request's {@code value}. */
public interface RunningRequest extends Running<JsonObject> {
}
