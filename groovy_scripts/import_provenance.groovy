// Shows the patches of a qupath-bridge run as tiles on the image that is open.
// Run it; or Run > Run for project. Running it twice changes nothing, and only tiles of qupath-bridge are ever removed.

String run = ''                      // a run ID, as in <project>/qupath_bridge/runs; '' takes the newest run of the image
boolean replace = false              // true: remove the patches of all other runs, too
boolean discardCorrections = false   // true: replace also tiles that somebody gave another class; else these stay
String python = ''                   // the Python that has qupath-bridge; '' looks for it: check_setup.groovy says where

// Without the window: QuPath script --project project.qpproj --save [--image NAME] [--args run=ID --args replace=true] import_provenance.groovy
// What came of each image stands in <project>/qupath_bridge/results. For QuPath 0.4 to 0.7.

import java.nio.file.*
import java.util.concurrent.*
import javafx.application.Platform
import javafx.event.*
import javafx.scene.control.*
import javafx.scene.input.*
import org.codehaus.groovy.runtime.InvokerHelper
import qupath.lib.images.ImageData
import qupath.lib.io.*
import qupath.lib.objects.*
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.scripting.ScriptAttributes
import static qupath.lib.gui.scripting.QPEx.*

ProjectImageEntry entry = getProject() == null || getCurrentImageData() == null ? null : getProject().getEntry(getCurrentImageData())
Map<String, Object> bridge = null
try {
    if (entry == null)
        fail('Open an image of a QuPath project first.')
    if (getQuPath() == null && !attribute(ScriptAttributes.BATCH_SAVE))
        fail('Nothing would be saved. Run QuPath script with --save.')
    Map<String, Object> given = arguments()
    bridge = start((given.remove('python') ?: python) as String)
    File live = new File((File) bridge.folder, 'tiles.geojson.gz'), add = new File((File) bridge.folder, 'add.geojson.gz')
    Map request = [command: 'tiles', action: 'show', entry: entry.getID(), run: given.remove('run') ?: run ?: null, replace: (given.remove('replace') ?: replace).toString() == 'true',
                   discard_corrections: (given.remove('discardCorrections') ?: discardCorrections).toString() == 'true', add: add.getPath()]
    if (given)
        fail("--args ${given.keySet()[0]} is not a setting of this script.")
    List<PathObject> present = getTileObjects() as List<PathObject>
    if (present) {
        exportObjectsToGeoJson(present, live.getPath(), 'FEATURE_COLLECTION')
        request.live_tiles = live.getPath()
    }
    Map value = ask(bridge, request)

    // Everything is read before anything is touched.
    List<PathObject> coming = value['add'] ? PathIO.readObjects(add) : []
    Set<String> going = value['remove'] as Set<String>
    getCurrentHierarchy().removeObjects(present.findAll { PathObject tile -> going.contains(tile.getID().toString()) }, true)
    getCurrentHierarchy().addObjects(coming)
    fireHierarchyUpdate()
    value['messages'].each { Object text -> say(text as String) }
    int expected = present.size() - (value['removed'] as int) + (value['added'] as int)
    if (getTileObjects().size() != expected)
        fail("${entry.getImageName()} has ${getTileObjects().size()} tiles, and ${expected} were expected. Do not save it; choose File > Reload data.")
    point(entry, value['pointer'] as String)
    record('import_provenance', entry.getID(), [ok: true, image: entry.getImageName(), expected: expected, found: getTileObjects().size()] + value.subMap(['run', 'added', 'removed', 'corrected_kept', 'rejected_kept', 'other_runs', 'messages']))
    if (getQuPath() != null && coming && !attribute(ScriptAttributes.BATCH_INDEX))
        suggestFilling()
} catch (Throwable error) {
    tell(error, 'import_provenance', entry)
} finally {
    stop(bridge)
}

/** Lets the project's list of images be filtered by the run that an image shows. */
void point(ProjectImageEntry entry, String run) {
    String key = 'qupath_bridge.run'
    if (entry.getMetadataValue(key) == run)
        return
    run == null ? entry.removeMetadataValue(key) : entry.putMetadataValue(key, run)
    getProject().syncChanges()
    if (getQuPath() != null)
        Platform.runLater { getQuPath().refreshProject() }
}

/** QuPath draws tiles as outlines: offers once to fill them, so that tissue and colours are seen. */
void suggestFilling() {
    javafx.beans.property.BooleanProperty asked = qupath.lib.gui.prefs.PathPrefs.createPersistentPreference('qupathBridgeFillSuggested', false)
    if (asked.get() || getQuPath().getOverlayOptions().getFillDetections())
        return
    asked.set(true)
    if (choose('QuPath shows patches as outlines. Fill them with half-transparent colours? The key F and the slider of the toolbar change that later.', ['Fill', 'Leave them']) == 0)
        Platform.runLater {
            getQuPath().getOverlayOptions().setFillDetections(true)
            getQuPath().getOverlayOptions().setOpacity(0.4f)
        }
}

// ---- From here on the same in every script of qupath-bridge: it finds Python, asks it, and says what came of it. ----

/** Ends the script with a sentence that says what to do; the details are for whoever helps. */
void fail(String sentence, String details = null) { throw new IllegalStateException(sentence, details ? new RuntimeException(details) : null) }
void say(String text) { println "qupath-bridge: ${text}" }
Map readJson(File file) { return (Map) GsonTools.getInstance().fromJson(file.getText('UTF-8'), Map) }

/** What QuPath tells a script about its run; null if it tells nothing. */
Object attribute(String name) { return binding.hasVariable(name) ? binding.getVariable(name) : null }

/** The settings that --args gives, each as name=value; a name that is given twice has a list. */
Map<String, Object> arguments() {
    List<List<String>> pairs = ((attribute('args') ?: []) as List<String>).collect { String each -> each.split('=', 2) as List<String> }
    pairs.findAll { List<String> pair -> pair.size() < 2 }.each { List<String> pair -> fail("--args ${pair[0]} is not a setting. Write it as name=value.") }
    return pairs.groupBy { List<String> pair -> pair[0] }.collectEntries { String name, List<List<String>> all -> [(name): all.size() == 1 ? all[0][1] : all*.get(1)] }
}

/** How qupath-bridge is started: by the setting, QUPATH_BRIDGE_PYTHON, Set up, ../.venv beside this script, or the PATH. */
List<String> findBridge(String setting) {
    File setup = new File(System.getenv('QUPATH_BRIDGE_HOME') ?: System.getProperty('user.home') + '/.qupath-bridge', 'setup.json')
    List<String> named = [setting, System.getenv('QUPATH_BRIDGE_PYTHON'), setup.isFile() ? readJson(setup)['python'] as String : null]
    int first = named.findIndexOf { String each -> each }
    String here = attribute(ScriptAttributes.FILE_PATH)
    List<File> places = here ? ['bin/python', 'Scripts/python.exe'].collect { String end -> new File(here, "../../.venv/${end}").getCanonicalFile() } : []
    places += (System.getenv('PATH') ?: '').split(File.pathSeparator).collectMany { String folder -> [new File(folder, 'qupath-bridge'), new File(folder, 'qupath-bridge.exe')] }
    File file = first < 0 ? places.find { File each -> each.isFile() } : new File(named[first])
    if (file == null)
        fail('No Python with qupath-bridge was found. Install it (python -m pip install qupath-bridge), and write the path of that Python into the setting python.', places.join('\n'))
    File inside = ['bin/python', 'Scripts/python.exe', 'python.exe'].collect { String name -> new File(file, name) }.find { File each -> each.isFile() }
    if (!file.isFile())
        fail("${file} (${['the setting python', 'QUPATH_BRIDGE_PYTHON', setup.getPath()][first]}) is ${file.isDirectory() ? 'a folder' : 'not there'}. Write ${inside ?: 'the path of the Python that has qupath-bridge'} in its place.")
    return file.getName().toLowerCase().startsWith('python') ? [file.getPath(), '-m', 'qupath_bridge'] : [file.getPath()]
}

/** Starts qupath-bridge, which answers requests until it is stopped. */
Map<String, Object> start(String setting) {
    List<String> command = findBridge(setting)
    String program = command[0], pip = "Run: \"${program}\" -m pip install --upgrade qupath-bridge"
    File folder = Files.createTempDirectory('qupath-bridge-').toFile(), bin = new File(program).getAbsoluteFile().getParentFile()
    ProcessBuilder builder = new ProcessBuilder(command + ['request', '-']).redirectError(new File(folder, 'messages.txt'))
    ['PYTHONHOME', 'PYTHONPATH'].each { String name -> builder.environment().remove(name) }
    builder.environment().putAll([PYTHONUTF8: '1', PYTHONIOENCODING: 'utf-8', PYTHONUNBUFFERED: '1', PYTHONNOUSERSITE: '1'])
    if (new File(bin, 'Library/bin').isDirectory())  // conda on Windows, which nobody activated
        builder.environment()['Path'] = [bin, new File(bin, 'Library/bin'), new File(bin, 'Scripts'), System.getenv('PATH') ?: ''].join(File.pathSeparator)
    Map<String, Object> bridge = [folder: folder, lines: new LinkedBlockingQueue<String>()]
    try {
        bridge.process = builder.start()
        // A full pipe would stop it: it is read all the time, and what is not an event is dropped. An empty line is the end.
        Thread.startDaemon {
            try { ((Process) bridge.process).getInputStream().eachLine('UTF-8') { String line -> if (line.startsWith('{"event"')) ((Queue) bridge.lines).add(line) } } catch (IOException ignored) {}
            ((Queue) bridge.lines).add('')
        }
        Map event = nextEvent(bridge)
        if (event == null && said(bridge).contains('No module named'))
            fail("${program} is a Python without qupath-bridge. ${pip}", said(bridge))
        if (event == null || event['protocol'] != 1)
            fail("${program} has ${event ? 'qupath-bridge ' + event['version'] + ', which does not fit this script' : 'no qupath-bridge that fits this script'}. ${pip}, and then: qupath-bridge scripts install", said(bridge))
    } catch (Throwable error) {
        String problem = error instanceof IOException ? error.toString() : null
        stop(bridge)
        problem ? fail("${program} cannot be started. Write the path of the Python that has qupath-bridge into the setting python.", problem) : { throw error }()
    }
    return bridge
}

/** The last messages of qupath-bridge for people. */
String said(Map bridge) { return new File((File) bridge.folder, 'messages.txt').readLines('UTF-8').takeRight(30).join('\n') }
/** The next event; null if qupath-bridge ended. QuPath can stop the script meanwhile. */
Map nextEvent(Map bridge) { return (Map) GsonTools.getInstance().fromJson(((BlockingQueue<String>) bridge.lines).take(), Map) }

/** Asks qupath-bridge for something; docs/from-qupath-scripts.md lists what, and the answers. */
Map ask(Map bridge, Map request) {
    File file = new File((File) bridge.folder, 'request.json'), result = new File((File) bridge.folder, 'result.json')
    file.setText(GsonTools.getInstance().toJson([protocol: 1, result: result.getPath(), project: getProject()?.getPath()?.toString()] + request), 'UTF-8')
    long shown = 0
    try { ((Process) bridge.process).getOutputStream().with { OutputStream out -> out.write("${file.getPath()}\n".getBytes('UTF-8')); out.flush() } } catch (IOException ignored) {}  // it ended, and its events say so
    for (Map event = nextEvent(bridge); event != null; event = nextEvent(bridge)) {
        if (event['event'] == 'result')
            return (Map) readJson(result)['value']
        if (event['event'] == 'error')
            fail([event['message'], event['hint']].findAll().join(' '), (event['details'] ?: said(bridge)) as String)
        if (event['event'] == 'warning')
            say("warning: ${event['text']}")
        if (event['event'] == 'progress' && System.currentTimeMillis() - shown > 2000) {
            shown = System.currentTimeMillis()
            say("${event['done'] as long} of ${event['total'] as long} patches, ${event['slides_done'] as int} of ${event['slides'] as int} images, ${event['rate'] as long}/s")
        }
    }
    fail('qupath-bridge ended without an answer; the details say why. An export can be resumed.', said(bridge))
    return null
}

/** Ends qupath-bridge with all that it started: asks first, so that an export can be resumed. */
void stop(Map bridge) {
    Thread.interrupted()
    Process process = (Process) bridge?.process
    List<ProcessHandle> all = process == null ? [] : process.descendants().collect { ProcessHandle each -> each } + process.toHandle()
    all.each { ProcessHandle each -> each.destroy() }
    if (process != null && !process.waitFor(2, TimeUnit.SECONDS))
        all.each { ProcessHandle each -> each.destroyForcibly() }
    ((File) bridge?.folder)?.deleteDir()
}

/** Asks a person; returns the number of the button, the last one if the dialog was closed. */
int choose(String text, List<String> buttons, String details = null) {
    FutureTask<Integer> task = new FutureTask<>({
        List<ButtonType> types = buttons.collect { String name -> new ButtonType(name, name == buttons[-1] ? ButtonBar.ButtonData.CANCEL_CLOSE : ButtonBar.ButtonData.OK_DONE) }
        ButtonType copy = new ButtonType('Copy details', ButtonBar.ButtonData.LEFT)
        Alert alert = new Alert(Alert.AlertType.NONE, text, (types + (details ? [copy] : [])) as ButtonType[])
        alert.setTitle('qupath-bridge')
        alert.initOwner(getQuPath().getStage())
        alert.getDialogPane().with { DialogPane pane -> pane.setPrefWidth(560); pane.setMinHeight(javafx.scene.layout.Region.USE_PREF_SIZE) }
        alert.getDialogPane().lookupButton(copy)?.addEventFilter(ActionEvent.ACTION, { ActionEvent event ->
            Clipboard.getSystemClipboard().setContent([(DataFormat.PLAIN_TEXT): (Object) "${text}\n${details}".toString()])
            event.consume()
        } as EventHandler<ActionEvent>)
        types.indexOf(alert.showAndWait().orElse(types[-1]))
    } as Callable<Integer>)
    Platform.isFxApplicationThread() ? task.run() : Platform.runLater(task)
    return task.get()
}

File resultFile(String script, String id) { return new File(getProject().getPath().toFile().getParentFile(), "qupath_bridge/results/${script}/${id}.json") }

/** Writes what came of an image to its result file, whole or not at all. */
void record(String script, String id, Map content) {
    File file = resultFile(script, id)
    try {
        File temporary = File.createTempFile('.result', '', Files.createDirectories(file.getParentFile().toPath()).toFile())
        temporary.setText(GsonTools.getInstance(true).toJson([script: script, entry: id, time: java.time.Instant.now().toString()] + content), 'UTF-8')
        Files.move(temporary.toPath(), file.toPath(), StandardCopyOption.REPLACE_EXISTING)
    } catch (IOException error) { say("warning: ${file} cannot be written (${error.getMessage()}).") }
}

/** Says what went wrong: in a dialog, or without the window as the last line of all. */
void tell(Throwable error, String script, ProjectImageEntry entry) {
    String sentence = error instanceof InterruptedException ? 'Stopped; an export can be resumed. Run the script again.' : error.getMessage() ?: error.toString()
    say(sentence)
    if (entry)
        record(script, entry.getID(), [ok: false, error: sentence])
    if (getQuPath() == null) {
        Runtime.getRuntime().addShutdownHook(new Thread({ System.err.println("qupath-bridge: ${entry ? entry.getImageName() + ': ' : ''}${sentence}") } as Runnable))
        throw error
    }
    if (!(error instanceof InterruptedException) && !attribute(ScriptAttributes.BATCH_INDEX))  // of several images the first says it, and all have a result
        choose(sentence, ['OK'], [error.toString(), error.getCause()?.getMessage(), *error.getStackTrace().findAll { StackTraceElement each -> each.getFileName()?.endsWith('.groovy') }].findAll().join('\n'))
}
