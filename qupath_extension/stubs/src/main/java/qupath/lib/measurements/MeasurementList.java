package qupath.lib.measurements;

public interface MeasurementList {

    double get(String name);

    void put(String name, double value);

    double remove(String name);
}
