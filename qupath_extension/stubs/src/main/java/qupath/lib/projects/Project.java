package qupath.lib.projects;

import java.nio.file.Path;

public interface Project<T> {

    Path getPath();
}
