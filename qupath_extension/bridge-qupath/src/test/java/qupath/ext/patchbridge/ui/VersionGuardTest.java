package qupath.ext.patchbridge.ui;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import qupath.ext.patchbridge.core.BridgeException;
import qupath.ext.patchbridge.core.Event;
import qupath.ext.patchbridge.core.Running;

class VersionGuardTest {

    private static final class Work implements Running<String> {
        private boolean cancelled;

        @Override
        public String result() {
            return "";
        }

        @Override
        public void cancel() {
            cancelled = true;
        }

        @Override
        public boolean isDone() {
            return false;
        }
    }

    private final Work work = new Work();
    private final VersionGuard guard = new VersionGuard(Path.of("p"), "1.2.3");

    @Test
    void theSameVersionGoesOnAndKeepsItsOwnError() {
        BridgeException own = new BridgeException("k", "m", null, null);
        guard.check(new Event.Start(1, "1.2.3", "p"));
        guard.watch(work);
        assertFalse(work.cancelled);
        assertSame(own, guard.reason(own));
    }

    @Test
    void anotherVersionIsStoppedBeforeAndAfterItIsWatched() {
        guard.watch(work);
        guard.check(new Event.Start(1, "1.2.2", "p"));
        assertTrue(work.cancelled);
        assertEquals("p has qupath-bridge 1.2.2, but this extension is 1.2.3.",
                guard.reason(BridgeException.cancelled()).getMessage());
        Work later = new Work();
        guard.watch(later);
        assertTrue(later.cancelled);
    }

    @Test
    void anotherProtocolIsStopped() {
        guard.watch(work);
        guard.check(new Event.Start(2, "1.2.3", "p"));
        assertTrue(work.cancelled);
    }
}
