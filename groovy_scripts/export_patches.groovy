// Exports labelled patches with qupath-bridge, of the image that is open or of the whole project.
// Run it; or Run > Run for project (without save), which makes one dataset of the chosen images.

Map options = [size: 256]     // e.g. [size: 224, mpp: 0.5, within: ['Tumor'], tissue: 'otsu']; docs/options.md lists all
boolean allImages = false     // true: all images of the project, not just this one
String out = ''               // folder for the patches; '' makes one in <project>/qupath_bridge/patches
String unsaved = 'ask'        // annotations that are not saved: 'ask', 'save' them first, or export what is on the 'screen'
String resume = 'ask'         // an export that was stopped: 'ask', resume it ('yes'), or start a new one ('no')
String python = ''            // the Python that has qupath-bridge; '' looks for it: check_setup.groovy says where

// Without the window: QuPath script --project project.qpproj [--image NAME] [--args size=512 --args allImages=true] export_patches.groovy
// An argument is a setting of above, or an option. What came of each image stands in <project>/qupath_bridge/results.

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
    Map<String, Object> given = arguments()
    Map<String, Object> settings = [out: (Object) out, unsaved: unsaved, resume: resume, python: python, allImages: allImages.toString()]
    settings = settings.collectEntries { String name, Object value -> [(name): given.remove(name) ?: value] }
    // Of one "Run for project" QuPath runs the script once for each image: the dataset of the images before is kept in a property.
    List batch = [getProject().getPath().toString(), attribute(ScriptAttributes.BATCH_SIZE) ?: 1, attribute(ScriptAttributes.BATCH_INDEX) ?: 0]
    List before = (System.getProperty('qupath_bridge.batch') ?: '\n\n').split('\n') as List
    String dataset = before[0] == batch[0] && before[1] == batch[1].toString() && (before[2] as int) < (batch[2] as int) ? before[3] : null
    boolean several = (batch[1] as int) > 1, all = settings.allImages == 'true' || (several && batch[1] == getProject().getImageList().size())
    Map value = null
    if (!all || dataset == null) {
        bridge = start(settings.python as String)
        Map wanted = [command: 'export', options: [*: options, *: given], out: dataset ?: settings.out ?: null, entries: all ? null : [entry.getID()], add: several && !all]
        Map request = dataset == null ? stopped(bridge, wanted, settings.resume as String) : wanted
        Map live = request == null ? null : unsavedAnnotations(all ? null : entry.getID(), settings.unsaved as String, (File) bridge.folder)
        if (live == null)
            return
        value = ask(bridge, request + [live: live])
        System.setProperty('qupath_bridge.batch', (batch + value['out']).join('\n'))
        say("${value['written'] as long} patches in ${value['out']}: ${((Map) value['labels']).collect { Object label, Object count -> "${label} ${count as long}" }.join(', ')}")
        value['slides'].each { Object each -> record('export_patches', each['entry'] as String, [ok: true, run_id: value['run_id'], out: value['out']] + (Map) each) }
        value['failures'].each { Object each -> record('export_patches', each['entry'] as String, [ok: false] + (Map) each) }
    }
    Map failure = value ? ((List<Map>) value['failures']).find { Map each -> each['entry'] == entry.getID() } : readJson(resultFile('export_patches', entry.getID()))
    if (failure?.get('error'))
        fail("${failure['error']} ${failure['hint'] ?: ''}".trim())
} catch (Throwable error) {
    tell(error, 'export_patches', entry)
} finally {
    stop(bridge)
}

/** The request that continues an export that was stopped, if somebody wants that; null if the person cancels. */
Map stopped(Map bridge, Map request, String wanted) {
    List<Map> all = ((List<Map>) ask(bridge, [command: 'runs', out: request.out])['unfinished']).findAll { Map each -> ((List) each['entries']).containsAll((List) request.entries ?: []) }
    Map last = all ? all[-1] : null
    if (last == null || wanted == 'no')
        return request
    String text = "An export was stopped: ${last['slides_done'] as int} of ${last['slides'] as int} images are done in ${last['out']}."
    int choice = wanted == 'yes' ? 0 : getQuPath() == null ? 1 : choose("${text} Resume it?", ['Resume', 'Start a new one', 'Cancel'])
    if (getQuPath() == null)
        say("${text} ${choice == 0 ? 'It is resumed.' : '--args resume=yes finishes it.'}")
    return choice == 0 ? [command: 'export', resume: true, out: last['out']] : choice == 1 ? request : null
}

/** Saves annotations that are not saved, or writes them to files, returned by image ID; null if the person cancels. */
Map<String, String> unsavedAnnotations(String only, String wanted, File folder) {
    Map<String, String> live = [:]
    Object window = getQuPath()
    String viewers = window && InvokerHelper.getMetaClass(window).respondsTo(window, 'getAllViewers') ? 'getAllViewers' : 'getViewers'  // 0.4
    for (Object viewer : window ? InvokerHelper.invokeMethod(window, viewers, null) as List : []) {
        ImageData shown = (ImageData) InvokerHelper.invokeMethod(viewer, 'getImageData', null)
        ProjectImageEntry entry = shown == null ? null : getProject().getEntry(shown)
        if (entry == null || !shown.isChanged() || (only && only != entry.getID()) || texts(drawn(shown.getHierarchy())) == texts(drawn(entry.readHierarchy())))
            continue
        if (attribute(ScriptAttributes.BATCH_SAVE))  // QuPath saves its older copy after this script
            fail("${entry.getImageName()} has annotations that are not saved. Save it, or choose Run for project (without save).")
        int choice = wanted == 'ask' ? choose("${entry.getImageName()} has annotations that are not saved.", ['Save and export', 'Export what is on screen', 'Cancel']) : ['save', 'screen'].indexOf(wanted)
        if (choice < 0 || choice == 2)
            return null
        if (choice == 0)
            entry.saveImageData(shown)
        else
            exportObjectsToGeoJson(drawn(shown.getHierarchy()), live[entry.getID()] = new File(folder, "${entry.getID()}.geojson").getPath(), 'FEATURE_COLLECTION')
    }
    return live
}

/** What was drawn on an image, and the same as texts to compare: QuPath calls an image changed after every script. */
List<PathObject> drawn(qupath.lib.objects.hierarchy.PathObjectHierarchy hierarchy) { return hierarchy.getFlattenedObjectList(null).findAll { PathObject each -> each.isAnnotation() || each.isTMACore() } as List<PathObject> }
Set<String> texts(List<PathObject> objects) { return objects.collect { PathObject each -> GsonTools.getInstance().toJson(each) } as Set<String> }

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
