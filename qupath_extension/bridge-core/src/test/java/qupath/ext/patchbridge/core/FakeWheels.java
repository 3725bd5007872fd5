package qupath.ext.patchbridge.core;

import java.io.IOException;
import java.io.OutputStream;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/** Small wheels in the place of the package and of what it depends on. */
final class FakeWheels {

    /** Answers the request {@code check}; {@code %s} is the version that it gives. */
    private static final String MAIN = """
            import json, os, sys
            import qb_needed
            request = json.loads(open(sys.argv[2], encoding="utf-8").read())
            value = {"version": "%s", "protocol": 1, "python": sys.executable, "problems": ["one problem"]}
            answer = {"protocol": 1, "ok": True, "value": value}
            with open(request["result"], "w", encoding="utf-8") as file:
                json.dump(answer, file)
            print(json.dumps({"event": "result", "file": request["result"]}), flush=True)
            """;

    private FakeWheels() {
    }

    /** Puts the package where the jar carries its wheel, which gives some version when it is asked. */
    static void bundle(String answeredVersion) throws IOException {
        write(bundled(), "qupath_bridge", BridgeVersion.current(), "Requires-Dist: qb-needed\n",
                MAIN.formatted(answeredVersion));
    }

    /** Takes the package away again, so that the real wheel is found where there is one. */
    static void unbundle() {
        Exchange.removeTree(bundled());
    }

    /** Returns the folder of the wheel among the classes of the tests, which come before all others. */
    private static Path bundled() {
        Path here;
        try {
            here = Path.of(FakeWheels.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
        return here.resolve("qupath/ext/patchbridge/core/wheel");
    }

    /** Writes the package that the other one depends on. */
    static void writeNeeded(Path folder) throws IOException {
        write(folder, "qb_needed", "1.0", "", "");
    }

    private static void write(Path folder, String name, String version, String requires, String main)
            throws IOException {
        String info = name + "-" + version + ".dist-info/";
        Map<String, String> files = new LinkedHashMap<>();
        files.put(name + "/__init__.py", "");
        files.put(name + "/__main__.py", main);
        files.put(info + "METADATA", "Metadata-Version: 2.1\nName: " + name.replace('_', '-')
                + "\nVersion: " + version + "\n" + requires);
        files.put(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
        files.put(info + "RECORD", String.join(",,\n", files.keySet()) + ",,\n" + info + "RECORD,,\n");
        Files.createDirectories(folder);
        try (OutputStream stream = Files.newOutputStream(folder.resolve(name + "-" + version + "-py3-none-any.whl"));
                ZipOutputStream zip = new ZipOutputStream(stream)) {
            for (Map.Entry<String, String> file : files.entrySet()) {
                zip.putNextEntry(new ZipEntry(file.getKey()));
                zip.write(file.getValue().getBytes(StandardCharsets.UTF_8));
                zip.closeEntry();
            }
        }
    }
}
