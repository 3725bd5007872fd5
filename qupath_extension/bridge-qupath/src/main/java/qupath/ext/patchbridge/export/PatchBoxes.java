package qupath.ext.patchbridge.export;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;

/**
 * The boxes of a preview, in full-resolution pixels, in the order in which one reads.
 *
 * <p>Immutable. A box is five numbers: x, y, width, height, and the index of its label.
 */
public final class PatchBoxes {

    /** Numbers per box. */
    private static final int STEP = 5;

    /** No boxes. */
    public static final PatchBoxes NONE = new PatchBoxes(List.of(), new int[0]);

    private final List<String> labels;
    private final int[] values;
    private final int tallest;

    private PatchBoxes(List<String> labels, int[] values) {
        this.labels = labels;
        this.values = values;
        int most = 0;
        for (int at = 3; at < values.length; at += STEP) {
            most = Math.max(most, values[at]);
        }
        this.tallest = most;
    }

    /** What is done with each box that a region meets. */
    @FunctionalInterface
    public interface Visitor {
        /** Takes one box; label is an index into {@link PatchBoxes#labels()}, or -1 for none. */
        void box(int x, int y, int width, int height, int label);
    }

    /**
     * Reads the file of boxes of a preview.
     *
     * @param json {"labels": […], "boxes": [x, y, w, h, label, …]}
     * @throws JsonParseException if it is anything else
     */
    public static PatchBoxes parse(JsonObject json) {
        JsonElement names = json.get("labels");
        JsonElement numbers = json.get("boxes");
        if (names == null || numbers == null || !names.isJsonArray() || !numbers.isJsonArray()) {
            throw new JsonParseException("labels and boxes are missing");
        }
        List<String> labels = new ArrayList<>();
        for (JsonElement name : names.getAsJsonArray()) {
            labels.add(name.getAsString());
        }
        JsonArray flat = numbers.getAsJsonArray();
        if (flat.size() % STEP != 0) {
            throw new JsonParseException(flat.size() + " numbers are no boxes");
        }
        int[] values = new int[flat.size()];
        for (int at = 0; at < values.length; at++) {
            values[at] = flat.get(at).getAsInt();
            if (at % STEP == STEP - 1 && values[at] >= labels.size()) {
                throw new JsonParseException("no label has the index " + values[at]);
            }
        }
        return new PatchBoxes(List.copyOf(labels), sortedByTop(values));
    }

    private static int[] sortedByTop(int[] values) {
        Integer[] order = new Integer[values.length / STEP];
        Arrays.setAll(order, index -> index);
        Arrays.sort(order, Comparator.<Integer>comparingInt(index -> values[index * STEP + 1])
                .thenComparingInt(index -> values[index * STEP]));
        int[] sorted = new int[values.length];
        for (int to = 0; to < order.length; to++) {
            System.arraycopy(values, order[to] * STEP, sorted, to * STEP, STEP);
        }
        return sorted;
    }

    /** Returns the number of boxes. */
    public int size() {
        return values.length / STEP;
    }

    /** Returns the names of the labels. */
    public List<String> labels() {
        return labels;
    }

    /**
     * Visits the boxes that share area with a region, in the order in which one reads.
     *
     * @param x left edge of the region, full-resolution pixels
     * @param y its upper edge
     * @param width its width
     * @param height its height
     * @param visitor what takes the boxes
     */
    public void visit(double x, double y, double width, double height, Visitor visitor) {
        Objects.requireNonNull(visitor);
        for (int at = firstBelow(y - tallest); at < values.length; at += STEP) {
            if (values[at + 1] >= y + height) {
                return;
            }
            boolean below = values[at + 1] + values[at + 3] > y;
            boolean beside = values[at] < x + width && values[at] + values[at + 2] > x;
            if (below && beside) {
                visitor.box(values[at], values[at + 1], values[at + 2], values[at + 3],
                        values[at + 4]);
            }
        }
    }

    /**
     * Visits areas of one label that neighbours in a row form together: what small boxes look like,
     * in a small part of the time.
     *
     * @param x left edge of the region, full-resolution pixels
     * @param y its upper edge
     * @param width its width
     * @param height its height
     * @param visitor what takes the areas
     */
    public void visitMerged(double x, double y, double width, double height, Visitor visitor) {
        int[] area = new int[STEP];
        visit(x, y, width, height, (left, top, wide, high, label) -> {
            boolean same = area[2] > 0 && area[1] == top && area[3] == high && area[4] == label;
            if (same && left <= area[0] + area[2]) {
                area[2] = Math.max(area[2], left + wide - area[0]);
                return;
            }
            hand(area, visitor);
            area[0] = left;
            area[1] = top;
            area[2] = wide;
            area[3] = high;
            area[4] = label;
        });
        hand(area, visitor);
    }

    private static void hand(int[] area, Visitor visitor) {
        if (area[2] > 0) {
            visitor.box(area[0], area[1], area[2], area[3], area[4]);
        }
    }

    /** Returns the height of the tallest box; 0 if there is none. */
    public int tallest() {
        return tallest;
    }

    /** Returns where the first box stands whose upper edge is below a line. */
    private int firstBelow(double y) {
        int low = 0;
        int high = size();
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (values[middle * STEP + 1] > y) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return low * STEP;
    }
}
