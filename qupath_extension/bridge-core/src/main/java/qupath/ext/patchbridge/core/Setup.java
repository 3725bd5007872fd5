package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import java.util.Optional;

/**
 * Which Python the extension and the scripts use. It is kept in a file of its own, since QuPath's
 * preferences begin anew with each minor version.
 *
 * @param python absolute path of the interpreter
 * @param version of the package in it
 */
public record Setup(Path python, String version) {

    /** Returns the folder of the set-up: {@code ~/.qupath-bridge}, or {@code QUPATH_BRIDGE_HOME}. */
    public static Path folder(Map<String, String> env, Path home) {
        String named = env.getOrDefault("QUPATH_BRIDGE_HOME", "");
        return named.isBlank() ? home.resolve(".qupath-bridge") : Path.of(named);
    }

    /** Returns the file of the set-up: {@code setup.json} in its folder. */
    public static Path file(Map<String, String> env, Path home) {
        return folder(env, home).resolve("setup.json");
    }

    /**
     * Reads the set-up.
     *
     * @return empty if there is no file
     * @throws BridgeException if the file cannot be read, or does not say what it has to
     */
    public static Optional<Setup> load(Path file) throws BridgeException {
        String text;
        try {
            text = Files.readString(file);
        } catch (NoSuchFileException e) {
            return Optional.empty();
        } catch (IOException e) {
            throw unreadable(file, e.toString());
        }
        JsonObject object = Json.object(text).orElseThrow(() -> unreadable(file, text));
        try {
            Path python = Json.path(object, "python");
            String version = Json.text(object, "version");
            if (python == null || !python.isAbsolute() || version == null) {
                throw unreadable(file, text);
            }
            return Optional.of(new Setup(python, version));
        } catch (InvalidPathException e) {
            throw unreadable(file, text);
        }
    }

    private static BridgeException unreadable(Path file, String details) {
        return new BridgeException("SetupError", Strings.get("error.setup-file", file),
                Strings.get("error.setup-file.hint"), details);
    }

    /** Writes the set-up, all or nothing, and makes its folder. */
    public void save(Path file) throws IOException {
        JsonObject object = new JsonObject();
        object.addProperty("python", python.toAbsolutePath().toString());
        object.addProperty("version", version);
        Files.createDirectories(file.toAbsolutePath().getParent());
        Path temporary = Files.createTempFile(file.toAbsolutePath().getParent(), "setup", ".tmp");
        try {
            Files.writeString(temporary, object + "\n");
            move(temporary, file);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }
}
