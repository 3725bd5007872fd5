package qupath.ext.patchbridge.core;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A program in the place of qupath-bridge: what it does is the command of the request. */
final class FakeBridge {

    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private static final PrintStream ERR = new PrintStream(System.err, true, StandardCharsets.UTF_8);
    private static int answered;

    private FakeBridge() {
    }

    /** Writes a program into a folder that runs this class. */
    static Path program(Path folder) throws IOException {
        return program(folder, "qupath-bridge", FakeBridge.class);
    }

    static Path program(Path folder, String name, Class<?> main) throws IOException {
        Files.createDirectories(folder);
        Path file = folder.resolve(name);
        Files.writeString(file, "#!/bin/sh\nexec '" + java() + "' -Xshare:auto -XX:TieredStopAtLevel=1 -cp '"
                + System.getProperty("java.class.path") + "' " + main.getName() + " \"$@\"\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
        return file;
    }

    static Path java() {
        return Path.of(System.getProperty("java.home"), "bin", "java");
    }

    public static void main(String[] arguments) throws Exception {
        boolean module = arguments[0].equals("-m");
        String[] args = module ? Arrays.copyOfRange(arguments, 2, arguments.length) : arguments;
        if (args[0].equals("stubborn")) {
            stubborn();
        }
        if (!args[1].equals("-")) {
            answer(Path.of(args[1]), args);
            return;
        }
        BufferedReader reader = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            answer(Path.of(line), args);
        }
    }

    private static void answer(Path file, String[] args) throws Exception {
        JsonObject request = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        event("{\"event\":\"start\",\"protocol\":1,\"version\":\"1.2.3\",\"python\":\"/p/python\"}");
        switch (request.get("command").getAsString()) {
            case "check" -> answerCheck(request);
            case "echo" -> echo(request, args);
            case "fail" -> fail(request);
            case "fail-in-event" -> event("{\"event\":\"error\",\"kind\":\"OutputError\",\"message\":\"Full: ü\","
                    + "\"hint\":\"Make room.\",\"details\":null}");
            case "die" -> die();
            case "broken" -> broken(request);
            case "flood" -> flood(request);
            case "silent" -> {
                TimeUnit.SECONDS.sleep(11);
                succeed(request, new JsonObject());
            }
            case "tree" -> tree();
            case "count" -> count(request);
            case "slow" -> slow(request);
            case "answer-and-die" -> {
                count(request);
                System.exit(0);
            }
            default -> throw new IllegalArgumentException(request.toString());
        }
    }

    private static void event(String json) {
        OUT.println(json);
    }

    private static void write(JsonObject request, String json) throws IOException {
        Path file = Path.of(request.get("result").getAsString());
        Path temporary = file.resolveSibling("tmp");
        Files.writeString(temporary, json);
        Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
    }

    private static void succeed(JsonObject request, JsonObject value) throws IOException {
        write(request, "{\"protocol\":1,\"ok\":true,\"value\":" + value + "}");
        JsonObject event = new JsonObject();
        event.addProperty("event", "result");
        event.add("file", request.get("result"));
        event(event.toString());
    }

    private static void answerCheck(JsonObject request) throws IOException {
        JsonObject value = new JsonObject();
        value.addProperty("version", BridgeVersion.current());
        value.addProperty("protocol", 1);
        value.addProperty("python", "/p/python");
        succeed(request, value);
    }

    private static void echo(JsonObject request, String[] args) throws IOException {
        event("{\"event\":\"progress\",\"done\":3,\"total\":9,\"slides_done\":1,\"slides\":2,\"slide\":\"中 ä\",\"rate\":12.5}");
        event("{\"event\":\"progress\",\"done\":9,\"total\":9,\"slides_done\":2,\"slides\":2,\"slide\":null,\"rate\":13}");
        event("{\"event\":\"warning\",\"text\":\"Größe\"}");
        event("{\"event\":\"from-tomorrow\"}");
        ERR.println("für Menschen");
        JsonObject value = new JsonObject();
        value.add("request", request);
        value.addProperty("arguments", String.join("|", args));
        JsonObject environment = new JsonObject();
        System.getenv().forEach(environment::addProperty);
        value.add("environment", environment);
        value.addProperty("input", System.in.read());
        succeed(request, value);
    }

    private static void fail(JsonObject request) throws IOException {
        write(request, "{\"protocol\":1,\"ok\":false,\"error\":{\"kind\":\"ProjectError\",\"message\":\"No project in Ä.\","
                + "\"hint\":null,\"details\":\"Traceback\"}}");
        event("{\"event\":\"error\",\"kind\":\"ProjectError\",\"message\":\"short\",\"hint\":null,\"details\":null}");
        System.exit(4);
    }

    private static void die() {
        ERR.println("Loading…");
        ERR.println("MemoryError: kein Speicher für 中");
        System.exit(137);
    }

    private static void broken(JsonObject request) throws IOException {
        event("{\"event\":\"progress\",\"done\":3");
        event("{\"event\":\"progress\",\"done\":{},\"total\":null,\"rate\":\"NaN\"}");
        event("{\"event\":5}");
        event("{}");
        event("[1, 2]");
        event("{\"event\":\"warning\"}");
        event("plain");
        System.out.write(new byte[] {(byte) 0xff, (byte) 0xfe, '\n'}, 0, 3);
        System.out.flush();
        succeed(request, new JsonObject());
    }

    /** Writes 64 million bytes in one line to each stream, and 50 million in short ones. */
    private static void flood(JsonObject request) throws Exception {
        byte[] block = "x".repeat(1_000_000).getBytes(StandardCharsets.US_ASCII);
        byte[] lines = ("y".repeat(99) + "\n").repeat(10_000).getBytes(StandardCharsets.US_ASCII);
        for (PrintStream stream : List.of(System.out, System.err)) {
            for (int i = 0; i < 64; i++) {
                stream.write(block);
            }
            stream.println();
            for (int i = 0; i < 50; i++) {
                stream.write(lines);
            }
            stream.flush();
        }
        succeed(request, new JsonObject());
    }

    /** Starts a child that does not end when it is asked to, and is as stubborn itself. */
    private static void tree() throws Exception {
        ProcessBuilder builder = new ProcessBuilder(java().toString(), "-XX:TieredStopAtLevel=1",
                "-cp", System.getProperty("java.class.path"), FakeBridge.class.getName(), "stubborn");
        builder.redirectOutput(ProcessBuilder.Redirect.INHERIT);
        Process child = builder.start();
        event("{\"event\":\"warning\",\"text\":\"" + ProcessHandle.current().pid() + "\"}");
        stubborn();
        child.waitFor();
    }

    private static void stubborn() throws InterruptedException {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                TimeUnit.MINUTES.sleep(2);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        event("{\"event\":\"warning\",\"text\":\"" + ProcessHandle.current().pid() + "\"}");
        TimeUnit.MINUTES.sleep(2);
    }

    private static void count(JsonObject request) throws IOException {
        answered++;
        JsonObject value = new JsonObject();
        value.addProperty("answered", answered);
        value.addProperty("pid", ProcessHandle.current().pid());
        value.add("name", request.get("name"));
        succeed(request, value);
    }

    /** Answers as soon as the file {@code go} is there. */
    private static void slow(JsonObject request) throws Exception {
        event("{\"event\":\"warning\",\"text\":\"slow\"}");
        Path go = Path.of(request.get("go").getAsString());
        while (!Files.exists(go)) {
            TimeUnit.MILLISECONDS.sleep(20);
        }
        count(request);
    }
}
