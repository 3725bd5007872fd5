// Runs in QuPath's window: each Groovy file that appears in a folder is run, and its result goes beside it.
import java.util.concurrent.Callable
import java.util.concurrent.FutureTask
import java.util.concurrent.TimeUnit

import javafx.application.Platform
import javafx.scene.input.KeyCode
import javafx.scene.input.KeyEvent
import javafx.stage.Stage
import javafx.stage.Window
import qupath.lib.gui.QuPathGUI
import qupath.lib.io.GsonTools

class Drive {
    static QuPathGUI gui() { QuPathGUI.getInstance() }

    /** Runs in JavaFX's thread, and returns what comes out. */
    static Object fx(Closure work) {
        def task = new FutureTask(work as Callable)
        Platform.runLater(task)
        return task.get(BUSY * 60, TimeUnit.SECONDS)
    }

    static final int BUSY = 2  // how many times as long things may take on a machine that is busy

    /** Waits until a closure, run in JavaFX's thread, gives something true, and returns it. */
    static Object until(int seconds, Closure work) {
        long end = System.currentTimeMillis() + BUSY * seconds * 1000
        Object found = fx(work)
        while (!found && System.currentTimeMillis() < end) {
            Thread.sleep(30)
            found = fx(work)
        }
        if (!found)
            throw new IllegalStateException("not within ${seconds} s; windows: ${fx { titles() }}")
        return found
    }

    static List<Stage> stages() { Window.getWindows().findAll { it instanceof Stage && it.showing } }

    static List<String> titles() { stages()*.title }

    static Stage stage(String title) { stages().find { it.title == title } }

    static Object node(String id) { stages().findResult { it.scene?.lookup('#patch-bridge-' + id) } }

    static List items() { gui().getMenu('Extensions>Patch bridge', false).items }

    static Object item(String key) { items().find { it.id == 'patch-bridge-menu.' + key } }

    static void press(String title, KeyCode code) {
        [KeyEvent.KEY_PRESSED, KeyEvent.KEY_RELEASED].each {
            stage(title).scene.root.fireEvent(new KeyEvent(it, '', '', code, false, false, false, false))
        }
    }

    static void close() { stages().findAll { it != gui().stage }.reverse()*.close() }
}

def folder = new File(System.getProperty('drive.folder'))
def work = {
    while (true) {
        folder.listFiles().findAll { it.name.endsWith('.groovy') }.sort().each { File file ->
            String text = file.getText('UTF-8')
            file.delete()
            Map result
            try {
                def shell = new GroovyShell(Drive.classLoader, new Binding())
                result = [value: shell.evaluate('import static Drive.*\nimport javafx.scene.input.KeyCode\n' + text)]
            } catch (Throwable error) {
                def words = new StringWriter()
                error.printStackTrace(new PrintWriter(words))
                result = [error: words.toString()]
            }
            def part = new File(folder, file.name + '.part')
            part.setText(GsonTools.getInstance().toJson(result), 'UTF-8')
            part.renameTo(new File(folder, file.name + '.json'))
        }
        Thread.sleep(30)
    }
}
def thread = new Thread(work as Runnable, 'drive')
thread.daemon = true
thread.contextClassLoader = this.class.classLoader
thread.start()
new File(folder, 'ready').createNewFile()
