package qupath.lib.objects.classes;

public class PathClass {

    private PathClass() {
    }

    public static PathClass fromString(String string) {
        return null;
    }

    public static PathClass getNullClass() {
        return null;
    }

    public Integer getColor() {
        return null;
    }

    @Override
    public String toString() {
        return null;
    }
}
