package qupath.ext.patchbridge.corrections;

import java.util.ArrayList;
import java.util.List;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;

import qupath.ext.patchbridge.ui.Times;

/**
 * What people said about the patches of an image.
 *
 * @param entry id of the image
 * @param name of the image
 * @param corrected number of patches with another class
 * @param confirmed number of patches whose class was confirmed
 * @param rejected number of rejected patches
 * @param withdrawn number of statements that were taken back
 * @param contested number of corrections of which the rule says something new
 * @param unsure number of changes that may be an accident
 * @param items the statements, one by one
 * @param notes what people should know, one sentence each
 */
record SlideCorrections(String entry, String name, long corrected, long confirmed, long rejected,
        long withdrawn, long contested, long unsure, List<Item> items, List<String> notes) {

    /** A statement about a patch. */
    record Item(String patch, String kind, String before, String after, String reviewer,
            String time) {
    }

    /** Reads the value of the request {@code corrections}. */
    static List<SlideCorrections> list(JsonObject value) {
        List<SlideCorrections> slides = new ArrayList<>();
        value.getAsJsonArray("slides").forEach(each -> slides.add(of(each.getAsJsonObject())));
        return List.copyOf(slides);
    }

    private static SlideCorrections of(JsonObject slide) {
        List<Item> items = new ArrayList<>();
        for (JsonElement each : slide.getAsJsonArray("items")) {
            JsonObject item = each.getAsJsonObject();
            items.add(new Item(text(item, "patch"), text(item, "kind"), text(item, "before"),
                    text(item, "after"), text(item, "reviewer"), Times.local(text(item, "time"))));
        }
        List<String> notes = new ArrayList<>();
        slide.getAsJsonArray("messages").forEach(each -> notes.add(each.getAsString()));
        if (!text(slide, "problem").isEmpty()) {
            notes.add(text(slide, "problem"));
        }
        return new SlideCorrections(text(slide, "entry"), text(slide, "slide_name"),
                number(slide, "corrected"), number(slide, "confirmed"), number(slide, "rejected"),
                number(slide, "withdrawn"), number(slide, "contested"), number(slide, "unsure"),
                List.copyOf(items), List.copyOf(notes));
    }

    private static String text(JsonObject object, String name) {
        JsonElement value = object.get(name);
        if (value == null || value.isJsonNull()) {
            return "";
        }
        return value.isJsonPrimitive() ? value.getAsString() : value.toString();
    }

    private static long number(JsonObject object, String name) {
        JsonElement value = object.get(name);
        return value == null || value.isJsonNull() ? 0 : value.getAsLong();
    }

    /** Tells whether there is nothing to say about the image. */
    boolean isEmpty() {
        return items.isEmpty() && notes.isEmpty() && unsure == 0;
    }
}
