/*
 * Exports labelled patches of the image that is open, with qupath-bridge.
 *
 * Script editor: Run, or Run > Run for project (without save). Without the window:
 *     QuPath script --project project.qpproj --image NAME export_patches.groovy [--args=--size --args=512 ...]
 * Arguments are options of "qupath-bridge export" and stand in place of the ones below.
 *
 * qupath-bridge reads what is saved, so the script asks to save first, and writes nothing into the
 * project but the folder qupath_bridge. For QuPath 0.4 to 0.7.
 */
import java.time.LocalDateTime
import java.time.format.DateTimeFormatter
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.TimeUnit

import org.codehaus.groovy.runtime.InvokerHelper
import qupath.lib.images.ImageData
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.projects.Projects
import qupath.lib.scripting.ScriptAttributes

import static qupath.lib.gui.scripting.QPEx.*

// ---------------------------------------------------------------------------------------------
// Settings

// Full path of the Python that has qupath-bridge, or of the program qupath-bridge itself.
// '' takes the environment variable QUPATH_BRIDGE_PYTHON, or qupath-bridge on the PATH.
String python = ''

// A new folder for the patches. '' makes <project>/qupath_bridge/patches/<image ID>_<date and time>.
String out = ''

// true: all images of the project, not just this one
boolean allImages = false

// What "qupath-bridge export --help" lists, e.g. ['--size', '224', '--mpp', '0.5', '--within', 'Tumor']
List<String> options = ['--size', '256']

// true: show the patches as tiles afterwards (import_provenance.groovy must stand beside this script)
boolean showTiles = false

// ---------------------------------------------------------------------------------------------

checkMinVersion('0.4.0')
List<String> given = binding.hasVariable('args') ? (binding.getVariable('args') as List<String>) : []
options = given ?: options

Project project = getProject()
ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = project == null || imageData == null ? null : project.getEntry(imageData)
if (entry == null)
    throw new IllegalStateException('Open an image of a QuPath project first.')
refuseUnsaved(project, allImages ? null : entry)

if (!out) {
    String time = LocalDateTime.now().format(DateTimeFormatter.ofPattern('yyyy-MM-dd_HH-mm-ss'))
    out = new File(Projects.getBaseDirectory(project), "qupath_bridge/patches/${allImages ? 'all' : entry.getID()}_${time}").getPath()
}
List<String> command = program(python) + ['export', project.getPath().toString(), '--json', '--progress', 'jsonl']
if (!options.any { String option -> option in ['--out', '-o'] })
    command += ['--out', out]
if (!allImages)
    command += ['--entry', 'id:' + entry.getID()]
command += options

println "qupath-bridge: ${command.join(' ')}"
Map result = execute(command)
println "qupath-bridge: ${result['written'] as int} patches in ${result['out']}"
((Map) result['labels']).each { Object label, Object count -> println "qupath-bridge: ${label}: ${count as int}" }
result['warnings'].each { println "qupath-bridge: warning: ${it}" }
result['failures'].each { println "qupath-bridge: ${it['slide_name']} failed: ${it['error']} ${it['next'] ?: ''}" }

File script = importScript()
if (!result['provenance'] || !result['written']) {
    println 'qupath-bridge: there is nothing to show in QuPath.'
} else if (!showTiles || script == null) {
    println 'qupath-bridge: run import_provenance.groovy to see the patches as tiles.'
} else {
    binding.setVariable('args', [result['run_id']] as String[])
    evaluate(script)
}


/** Refuses images whose annotations a viewer shows otherwise than they are saved: the tool reads the files. */
void refuseUnsaved(Project project, ProjectImageEntry only) {
    Object qupath = getQuPath()
    if (qupath == null)
        return
    // getViewers() in 0.4, getAllViewers() from 0.5 on
    String name = InvokerHelper.getMetaClass(qupath).respondsTo(qupath, 'getAllViewers') ? 'getAllViewers' : 'getViewers'
    ((Collection) InvokerHelper.invokeMethod(qupath, name, null)).each { Object viewer ->
        ImageData shown = (ImageData) InvokerHelper.invokeMethod(viewer, 'getImageData', null)
        ProjectImageEntry entry = shown == null ? null : project.getEntry(shown)
        if (entry == null || !shown.isChanged() || (only != null && only.getID() != entry.getID()))
            return
        if (!sameAnnotations(shown.getHierarchy(), entry.readHierarchy()))
            throw new IllegalStateException("${entry.getImageName()} has annotations that are not saved. Save it (File > Save), then run this again.")
        println "qupath-bridge: if you changed more of ${entry.getImageName()} than annotations, save it and run this again."
    }
}

/** Whether two hierarchies have the same annotations. QuPath calls an image changed after every script. */
boolean sameAnnotations(PathObjectHierarchy one, PathObjectHierarchy other) {
    List<Set<String>> both = [one, other].collect { PathObjectHierarchy hierarchy ->
        hierarchy.getAnnotationObjects().collect { PathObject each -> GsonTools.getInstance().toJson(each) } as Set<String>
    }
    return both[0] == both[1]
}

/** How qupath-bridge is started, as a list: no shell, so no quoting. */
List<String> program(String python) {
    String named = python ?: System.getenv('QUPATH_BRIDGE_PYTHON')
    if (named) {
        if (!new File(named).isFile())
            throw new FileNotFoundException("There is no ${named}. Correct the setting, or QUPATH_BRIDGE_PYTHON.")
        boolean interpreter = new File(named).getName().toLowerCase().startsWith('python')
        return interpreter ? [named, '-m', 'qupath_bridge'] : [named]
    }
    List<String> names = File.separatorChar == ('\\' as char) ? ['qupath-bridge.exe'] : ['qupath-bridge']
    for (String folder : (System.getenv('PATH') ?: '').split(File.pathSeparator)) {
        File found = names.collect { String name -> new File(folder, name) }.find { File each -> each.isFile() }
        if (found != null)
            return [found.getPath()]
    }
    throw new FileNotFoundException('qupath-bridge was not found. Write the full path of the Python that has it into ' +
            'the settings of this script, or into the environment variable QUPATH_BRIDGE_PYTHON.')
}

/** Runs the tool and returns its result, or fails with its error; the tool ends with the script. */
Map execute(List<String> command) {
    ProcessBuilder builder = new ProcessBuilder(command)
    Map<String, String> environment = builder.environment()
    ['PYTHONHOME', 'PYTHONPATH'].each { String name -> environment.remove(name) }
    environment.putAll([PYTHONUTF8: '1', PYTHONIOENCODING: 'utf-8', PYTHONUNBUFFERED: '1'])
    addLibraries(environment, new File(command[0]).getParentFile())

    Process process = builder.start()
    process.getOutputStream().close()
    ConcurrentLinkedQueue<String> output = new ConcurrentLinkedQueue<>()
    ConcurrentLinkedQueue<String> messages = new ConcurrentLinkedQueue<>()
    List<Thread> readers = [drain(process.getInputStream(), output), drain(process.getErrorStream(), messages)]
    List<String> last = []
    try {
        while (!process.waitFor(500, TimeUnit.MILLISECONDS))
            show(messages, last)
        readers.each { Thread reader -> reader.join(5000) }
        show(messages, last)
    } finally {
        stop(process)
    }
    // Status 1 with a result means that some images failed; the result says which.
    Map result = readResult(output.join('\n'))
    if (result == null || result['error'] != null || process.exitValue() > 1)
        throw new RuntimeException("qupath-bridge stopped with status ${process.exitValue()}: ${result?.get('error') ?: last.join(' ')}")
    return result
}

/** The JSON object that the tool printed: a result, or its error; null where it printed none. */
Map readResult(String text) {
    try {
        return GsonTools.getInstance().fromJson(text, Map)
    } catch (RuntimeException ignored) {
        return null
    }
}

/** Reads a stream to its end in a thread of its own: a full pipe would stop the tool. */
Thread drain(InputStream stream, ConcurrentLinkedQueue<String> lines) {
    Runnable read = { stream.eachLine('UTF-8') { String line -> lines.add(line) } } as Runnable
    Thread thread = new Thread(read, 'qupath-bridge output')
    thread.setDaemon(true)
    thread.start()
    return thread
}

/** Prints what the tool said since the last look; keeps its last words. */
void show(ConcurrentLinkedQueue<String> messages, List<String> last) {
    Map progress = null
    for (String line = messages.poll(); line != null; line = messages.poll()) {
        if (line.startsWith('{"event": "progress"')) {
            progress = GsonTools.getInstance().fromJson(line, Map)
        } else {
            println "[qupath-bridge] ${line}"
            last.add(line)
            if (last.size() > 5)
                last.remove(0)
        }
    }
    if (progress != null)
        println "qupath-bridge: ${progress['done'] as int} of ${progress['total'] as int} patches, ${progress['slides_done'] as int} of ${progress['slides'] as int} images, ${progress['rate'] as int}/s"
}

/** Ends the tool if it still runs: asks first, so that it leaves a run that can be resumed. */
void stop(Process process) {
    if (!process.isAlive())
        return
    List<ProcessHandle> children = process.descendants().collect { it } as List<ProcessHandle>
    process.destroy()
    children.each { ProcessHandle child -> child.destroy() }
    if (!process.waitFor(5, TimeUnit.SECONDS)) {
        children.each { ProcessHandle child -> child.destroyForcibly() }
        process.destroyForcibly()
    }
}

/** Lets a conda environment on Windows find its libraries without being activated. */
void addLibraries(Map<String, String> environment, File folder) {
    File library = new File(folder, 'Library/bin')
    if (folder == null || !library.isDirectory())
        return
    String name = environment.keySet().find { String key -> key.equalsIgnoreCase('PATH') } ?: 'PATH'
    List<Object> folders = [folder, library, new File(folder, 'Scripts'), environment[name] ?: '']
    environment[name] = folders.join(File.pathSeparator)
}

/** The import script beside this one; null where this script was never saved. */
File importScript() {
    if (!binding.hasVariable(ScriptAttributes.FILE_PATH))
        return null
    File here = new File(binding.getVariable(ScriptAttributes.FILE_PATH) as String)
    File script = new File(here.getParentFile(), 'import_provenance.groovy')
    return script.isFile() ? script : null
}
