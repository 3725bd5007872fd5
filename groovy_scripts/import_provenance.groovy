/*
 * Shows the patches of a qupath-bridge run as tiles on the image that is open.
 *
 * Script editor: Run, or Run > Run for project. Without the window:
 *     QuPath script --project project.qpproj --save import_provenance.groovy [--args RUN_ID] [--args replace]
 *
 * Only tiles that qupath-bridge made are ever removed, and running it twice changes nothing. Tiles that you
 * gave another class stay as they are.
 * For QuPath 0.4 to 0.7.
 */
import javafx.application.Platform
import org.codehaus.groovy.runtime.InvokerHelper
import qupath.lib.images.ImageData
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.projects.Projects
import qupath.lib.roi.interfaces.ROI
import qupath.lib.scripting.ScriptAttributes

import static qupath.lib.gui.scripting.QPEx.*

// ---------------------------------------------------------------------------------------------
// Settings

String run = ''           // a run ID, as in <project>/qupath_bridge/runs; '' takes the newest run of the image
boolean replace = false   // true: also remove the patches of all other runs from the image

// ---------------------------------------------------------------------------------------------

checkMinVersion('0.4.0')
List<String> given = binding.hasVariable('args') ? (binding.getVariable('args') as List<String>) : []
replace = replace || given.contains('replace')
run = given.find { String arg -> arg != 'replace' } ?: run

Project project = getProject()
ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = project == null || imageData == null ? null : project.getEntry(imageData)
if (entry == null)
    throw new IllegalStateException('Open an image of a QuPath project first.')

File runs = new File(Projects.getBaseDirectory(project), 'qupath_bridge/runs')
File folder = run ? new File(runs, run) : newestRun(runs, entry.getID())
if (run && !isRun(folder))
    throw new FileNotFoundException("There is no run ${run} in ${runs}.")
if (folder == null || !listsEntry(folder, entry.getID())) {
    println "qupath-bridge: ${entry.getImageName()}: nothing to import, ${folder == null ? 'no run has patches' : folder.getName() + ' has nothing'} of this image."
    return
}

// Everything is read before anything is touched. What goes is what write-back --direct would remove.
List<PathObject> fresh = readTiles(folder, entry.getID())
Map<UUID, PathObject> wanted = fresh.collectEntries { PathObject tile -> [(tile.getID()): tile] }
Set<String> places = fresh.collect { PathObject tile -> place(tile) } as Set<String>
Set<String> replaced = earlierVersions(runs, folder) + folder.getName()
List<PathObject> ours = imageData.getHierarchy().getTileObjects().findAll { PathObject tile -> isOurs(tile) } as List<PathObject>
Set<UUID> same = ours.findAll { PathObject tile -> shows(tile, wanted[tile.getID()]) }*.getID() as Set<UUID>
List<PathObject> candidates = ours.findAll { PathObject tile ->
    !same.contains(tile.getID()) && (replace || wanted.containsKey(tile.getID()) || places.contains(place(tile)) || replaced.contains(runOf(tile)))
} as List<PathObject>
Map<String, Map<UUID, PathClass>> written = [:]
List<PathObject> corrected = candidates.findAll { PathObject tile -> isCorrected(tile, runs, entry.getID(), written) } as List<PathObject>
List<PathObject> old = candidates - corrected
Set<UUID> kept = same + corrected*.getID()
Set<String> taken = corrected.collect { PathObject tile -> place(tile) } as Set<String>
List<PathObject> coming = fresh.findAll { PathObject tile -> !kept.contains(tile.getID()) && !taken.contains(place(tile)) } as List<PathObject>
Map<String, Integer> others = (ours - candidates).findAll { PathObject tile -> !same.contains(tile.getID()) }.countBy { PathObject tile -> runOf(tile) ?: 'an unknown run' }

String name = entry.getImageName()
if (corrected)
    println "qupath-bridge: ${name}: left ${corrected.size()} tiles alone, which somebody gave another class."
others.each { String other, Integer count -> println "qupath-bridge: ${name}: ${count} tiles of ${other} stay; they may overlap." }
if (old.isEmpty() && coming.isEmpty()) {
    println "qupath-bridge: ${name}: the ${fresh.size()} tiles of ${folder.getName()} are there already."
} else {
    imageData.getHierarchy().removeObjects(old, true)
    imageData.getHierarchy().addObjects(coming)
    fireHierarchyUpdate()
    println "qupath-bridge: ${name}: removed ${old.size()} and added ${coming.size()} tiles of ${folder.getName()}."
}

String pointer = 'qupath_bridge.run'
boolean window = getQuPath() != null
if (!window && !isSaved()) {
    println 'qupath-bridge: nothing is saved; run QuPath script with --save to keep the tiles.'
    return
}
if (entry.getMetadataValue(pointer) == folder.getName())
    return
entry.putMetadataValue(pointer, folder.getName())
project.syncChanges()
if (window)
    Platform.runLater { getQuPath().refreshProject() }


/** The newest run that has tiles of an image; null if there is none. */
File newestRun(File runs, String entryId) {
    return allRuns(runs).reverse().find { File each -> listsEntry(each, entryId) }
}

/** All finished runs, oldest first: run IDs sort by time. */
List<File> allRuns(File runs) {
    List<File> all = (runs.listFiles() ?: new File[0]).findAll { File each -> isRun(each) } as List<File>
    return all.sort { File each -> each.getName() }
}

/** Whether a folder is a finished run: its record is written last. */
boolean isRun(File folder) {
    return new File(folder, 'run.json').isFile()
}

/** Whether a run exported the image: it has the facts of it, and tiles unless it kept no patch. */
boolean listsEntry(File folder, String entryId) {
    return ['.geojson.gz', '.json'].any { String ending -> new File(folder, entryId + ending).isFile() }
}

/** The tiles that a run wrote for an image; fails if their file is another by now, or if one of them is not ours. */
List<PathObject> readTiles(File folder, String entryId) {
    File file = new File(folder, entryId + '.geojson.gz')
    String digest = ((Map) record(folder)['tiles'])?.get(entryId) as String
    if (digest == null && !file.exists())
        return []
    if (!file.isFile() || file.getBytes().digest('SHA-256') != digest)
        throw new IOException("${file} is not what run ${folder.getName()} wrote. The image was not changed. Delete ${folder}; qupath-bridge write-back PROJECT --run OUT writes it again from the run's output.")
    List<PathObject> tiles
    try {
        tiles = PathIO.readObjects(file)
    } catch (IOException | RuntimeException error) {
        throw new IOException("${file} cannot be read (${error.getMessage()}). The image was not changed.", error)
    }
    PathObject other = tiles.find { PathObject tile -> !tile.isTile() || !isOurs(tile) }
    if (tiles.isEmpty() || other != null)
        throw new IOException("${file} holds ${other ?: 'nothing'}: it is not a file of qupath-bridge. The image was not changed.")
    return tiles
}

/** Whether qupath-bridge made an object: the first half of the ID is the same for all of its tiles. */
boolean isOurs(PathObject tile) {
    return tile.getID().toString().startsWith('9e0725bf-e8af-8f43-')
}

/** Whether an object shows a tile. QuPath keeps measurements of tiles with 32 bits; what was added to it does not count. */
boolean shows(PathObject there, PathObject tile) {
    return tile != null && there.getPathClass() == tile.getPathClass() && there.getName() == tile.getName() &&
            place(there) == place(tile) && runOf(there) == runOf(tile) &&
            tile.getMeasurements().every { String key, Number value -> there.getMeasurements()[key]?.floatValue() == value.floatValue() }
}

/** The box and plane of a tile as text. */
String place(PathObject tile) {
    ROI roi = tile.getROI()
    return [roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight(), roi.getZ(), roi.getT()].join(' ')
}

/** The run that a tile shows; null where QuPath 0.4 dropped it. */
String runOf(PathObject tile) {
    if (!InvokerHelper.getMetaClass(tile).respondsTo(tile, 'getMetadata'))
        return null
    return ((Map) InvokerHelper.invokeMethod(tile, 'getMetadata', null))['qb.run'] as String
}

/** Whether somebody gave a tile another class than its run wrote. */
boolean isCorrected(PathObject tile, File runs, String entryId, Map<String, Map<UUID, PathClass>> written) {
    String shown = runOf(tile)
    if (shown == null)
        shown = allRuns(runs).reverse().find { File each -> classes(each, entryId, written).containsKey(tile.getID()) }?.getName()
    File folder = shown == null ? null : new File(runs, shown)
    if (folder == null || !isRun(folder))
        return false
    Map<UUID, PathClass> known = classes(folder, entryId, written)
    if (!known.containsKey(tile.getID())) {
        // QuPath copied it with its image: the run has it under another entry.
        Object slide = ((Collection) record(folder)['slides']).find { Object each ->
            (tile.getName() ?: '').startsWith("${((Map) each)['slide_id']}_x")
        }
        if (slide != null)
            known = classes(folder, ((Map) slide)['entry_id'] as String, written)
    }
    return known.containsKey(tile.getID()) && known[tile.getID()] != tile.getPathClass()
}

/** The classes that a run wrote for the tiles of an image; read once. */
Map<UUID, PathClass> classes(File folder, String entryId, Map<String, Map<UUID, PathClass>> written) {
    String key = new File(folder, entryId).getPath()
    Map<UUID, PathClass> known = written[key]
    if (known == null) {
        known = readTiles(folder, entryId).collectEntries { PathObject tile -> [(tile.getID()): tile.getPathClass()] }
        written[key] = known
    }
    return known
}

/** The runs that a run replaces: older ones with its output, or with its settings. */
Set<String> earlierVersions(File runs, File folder) {
    Map run = record(folder)
    List<File> earlier = allRuns(runs).findAll { File each ->
        each.getName() < folder.getName() && ['out', 'config_digest'].any { String key -> run[key] != null && run[key] == record(each)[key] }
    } as List<File>
    return earlier*.getName() as Set<String>
}

/** The record of a run; empty where it is damaged. */
Map record(File folder) {
    try {
        return GsonTools.getInstance().fromJson(new File(folder, 'run.json').getText('UTF-8'), Map) ?: [:]
    } catch (RuntimeException ignored) {
        return [:]
    }
}

/** Whether QuPath saves the image after this script. */
boolean isSaved() {
    return binding.hasVariable(ScriptAttributes.BATCH_SAVE) && binding.getVariable(ScriptAttributes.BATCH_SAVE)
}
