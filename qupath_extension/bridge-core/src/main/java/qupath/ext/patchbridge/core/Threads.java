package qupath.ext.patchbridge.core;

/** Threads that never keep QuPath from ending. */
final class Threads {

    private Threads() {
    }

    static Thread start(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}
