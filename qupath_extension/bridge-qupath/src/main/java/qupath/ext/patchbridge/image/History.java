package qupath.ext.patchbridge.image;

import qupath.lib.images.ImageData;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;

/** Writes what was done into the history of an image, as a line that a script can run again. */
public final class History {

    private static final String CLASS = "qupath.ext.patchbridge.PatchBridge.";

    private History() {
    }

    /**
     * Adds a step.
     *
     * @param data the image
     * @param name what was done, for people
     * @param method method of {@code PatchBridge} that does the same
     * @param arguments its arguments, texts or null
     */
    public static void add(ImageData<?> data, String name, String method, String... arguments) {
        data.getHistoryWorkflow().addStep(
                new DefaultScriptableWorkflowStep(name, line(method, arguments)));
    }

    /** Returns the line of Groovy that calls a method of {@code PatchBridge}. */
    static String line(String method, String... arguments) {
        StringBuilder line = new StringBuilder(CLASS).append(method).append('(');
        for (int index = 0; index < arguments.length; index++) {
            line.append(index == 0 ? "" : ", ").append(quoted(arguments[index]));
        }
        return line.append(')').toString();
    }

    /** Returns a text as a literal of Groovy, in which nothing is replaced. */
    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
                .replace("\r", "\\r") + "'";
    }
}
