package qupath.ext.patchbridge.core;

import java.time.Duration;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Ends processes with all that they started, at the latest when QuPath itself ends. */
final class ProcessTree {

    /** Time for a process to end by itself, so that its run can be resumed. */
    static final Duration GRACE = Duration.ofSeconds(3);

    private static final Set<Process> LIVE = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(ProcessTree::endAll, "patch-bridge-end"));
    }

    private ProcessTree() {
    }

    /** Remembers a process, so that it ends with this program. */
    static void watch(Process process) {
        LIVE.add(process);
        process.onExit().thenRun(() -> LIVE.remove(process));
    }

    /** Asks a process and its descendants to end, and forces those that are there after the grace. */
    static void end(Process process, Duration grace) {
        Set<ProcessHandle> tree = new LinkedHashSet<>();
        collect(process, tree);
        tree.forEach(ProcessHandle::destroy);
        long end = System.nanoTime() + grace.toNanos();
        while (tree.stream().anyMatch(ProcessHandle::isAlive) && System.nanoTime() < end) {
            if (!sleep()) {
                break;
            }
            collect(process, tree);
        }
        tree.forEach(ProcessHandle::destroyForcibly);
    }

    /** Adds the descendants before the process itself. Those of a dead process cannot be found. */
    private static void collect(Process process, Set<ProcessHandle> tree) {
        process.descendants().forEach(tree::add);
        tree.add(process.toHandle());
    }

    /** Returns false if the thread was interrupted. */
    private static boolean sleep() {
        try {
            Thread.sleep(50);
            return true;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    private static void endAll() {
        LIVE.parallelStream().forEach(process -> end(process, GRACE));
    }
}
