package qupath.ext.patchbridge.core;

import static org.junit.jupiter.api.Assertions.fail;

import java.io.File;
import java.io.IOException;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;

/** Looks at processes and folders the way tests need it. */
final class Processes {

    private Processes() {
    }

    /** Returns a folder with a name that paths in hospitals have, as far as this Java can write it. */
    static Path folder(Path parent) throws IOException {
        String name = "Dr. Müller, Haut 皮肤 $1 'x";
        String encoding = System.getProperty("sun.jnu.encoding", "UTF-8");
        boolean writable = Charset.forName(encoding).newEncoder().canEncode(name);
        return Files.createDirectories(parent.resolve(writable ? name.replace("'", "") : "Dr. M, Haut $1"));
    }

    /** Tells whether a process runs. One that ended and that nobody asked for its status does not. */
    static boolean runs(long pid) {
        Path status = Path.of("/proc", Long.toString(pid), "stat");
        try {
            String text = Files.readString(status);
            return text.charAt(text.lastIndexOf(')') + 2) != 'Z';
        } catch (IOException e) {
            return Files.isDirectory(Path.of("/proc/self")) ? false
                    : ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
        }
    }

    /** Returns a PATH without the folders that have the program uv. */
    static String withoutUv(String path) {
        return String.join(File.pathSeparator, Stream.of(path.split(File.pathSeparator))
                .filter(folder -> !Files.exists(Path.of(folder, "uv"))).toList());
    }

    static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > end) {
                fail("not in 30 s: " + what);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }
}
