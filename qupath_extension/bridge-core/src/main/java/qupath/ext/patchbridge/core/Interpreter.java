package qupath.ext.patchbridge.core;

import java.nio.file.Path;

/**
 * A Python on this machine that an environment can be made from.
 *
 * @param python absolute path
 * @param version such as {@code 3.12.4}
 */
public record Interpreter(Path python, String version) {
}
