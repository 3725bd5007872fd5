package qupath.ext.patchbridge.core;

import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

/** A program that starts a request, prints the ids of its processes, and quits in the middle of it. */
final class QuittingProgram {

    private QuittingProgram() {
    }

    public static void main(String[] args) throws Exception {
        CountDownLatch started = new CountDownLatch(3);
        BridgeProcess.start(Path.of(args[0]), Request.of("tree"), event -> {
            if (event instanceof Event.Warning warning) {
                System.out.println(warning.text());
                started.countDown();
            }
        }, line -> { });
        started.await();
        System.exit(0);
    }
}
