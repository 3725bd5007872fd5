package qupath.lib.measurements;

import java.util.List;

public interface MeasurementList {

    List<String> getMeasurementNames();

    double get(String name);

    void put(String name, double value);

    double remove(String name);
}
