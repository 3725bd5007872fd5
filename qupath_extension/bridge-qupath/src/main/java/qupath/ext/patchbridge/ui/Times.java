package qupath.ext.patchbridge.ui;

import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;

/** Times as people read them. */
public final class Times {

    private static final DateTimeFormatter FORMAT = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm");

    private Times() {
    }

    /** Returns a time with an offset in the zone of this computer; another text stays as it is. */
    public static String local(String time) {
        try {
            return OffsetDateTime.parse(time).atZoneSameInstant(ZoneId.systemDefault())
                    .format(FORMAT);
        } catch (DateTimeParseException error) {
            return time;
        }
    }
}
