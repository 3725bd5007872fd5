package qupath.lib.common;

public class Version implements Comparable<Version> {

    private Version() {
    }

    public static Version parse(String version) throws IllegalArgumentException {
        return null;
    }

    @Override
    public int compareTo(Version other) {
        return 0;
    }
}
