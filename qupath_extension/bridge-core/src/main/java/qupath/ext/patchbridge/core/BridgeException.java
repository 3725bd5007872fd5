package qupath.ext.patchbridge.core;

/** Says what went wrong, and what to do next. */
public final class BridgeException extends Exception {

    private static final long serialVersionUID = 1L;
    private static final String CANCELLED = "Cancelled";

    private final String kind;
    private final String hint;
    private final String details;

    /**
     * Makes an exception.
     *
     * @param kind one word, such as {@code OutputError}
     * @param message one sentence for people
     * @param hint what to do next; null where nothing can be said
     * @param details for a report, such as a traceback or the last words of Python; null for none
     */
    public BridgeException(String kind, String message, String hint, String details) {
        super(message);
        this.kind = kind;
        this.hint = hint;
        this.details = details;
    }

    /** Returns the error of work that a person stopped. */
    public static BridgeException cancelled() {
        return new BridgeException(CANCELLED, Strings.get("error.cancelled"), null, null);
    }

    /** Returns the kind of the error, as Python or this package names it. */
    public String kind() {
        return kind;
    }

    /** Returns what to do next, or null. */
    public String hint() {
        return hint;
    }

    /** Returns what a report needs besides message and hint, or null. */
    public String details() {
        return details;
    }

    /** Tells whether somebody cancelled: no fault, and no dialog. */
    public boolean isCancelled() {
        return CANCELLED.equals(kind);
    }

    /** Returns message, hint and details as one text, for the clipboard. */
    public String report() {
        StringBuilder text = new StringBuilder(kind).append(": ").append(getMessage());
        if (hint != null) {
            text.append('\n').append(hint);
        }
        if (details != null) {
            text.append("\n\n").append(details);
        }
        return text.toString();
    }
}
