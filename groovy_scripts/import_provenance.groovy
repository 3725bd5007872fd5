/*
 * Shows the patches of a qupath-bridge run as tiles on the image that is open.
 *
 * Script editor: Run, or Run > Run for project. Without the window:
 *     QuPath script --project project.qpproj --save import_provenance.groovy [--args RUN_ID] [--args replace]
 *
 * Only tiles that qupath-bridge made are ever removed, and running it twice changes nothing.
 * For QuPath 0.4 to 0.7.
 */
import javafx.application.Platform
import qupath.lib.images.ImageData
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.projects.Projects
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

// Everything is read before anything is touched.
List<PathObject> fresh = readTiles(new File(folder, entry.getID() + '.geojson.gz'))
Set<UUID> ids = fresh.collect { PathObject tile -> tile.getID() } as Set<UUID>
List<PathObject> old = imageData.getHierarchy().getTileObjects().findAll { PathObject tile ->
    isOurs(tile) && (replace || ids.contains(tile.getID()))
} as List<PathObject>

String pointer = 'qupath_bridge.run'
if (folder.getName() == entry.getMetadataValue(pointer) && sameTiles(old, fresh)) {
    println "qupath-bridge: ${entry.getImageName()}: the ${fresh.size()} tiles of ${folder.getName()} are there already."
    return
}
imageData.getHierarchy().removeObjects(old, true)
imageData.getHierarchy().addObjects(fresh)
fireHierarchyUpdate()
println "qupath-bridge: ${entry.getImageName()}: removed ${old.size()} and added ${fresh.size()} tiles of ${folder.getName()}."

boolean window = getQuPath() != null
if (!window && !isSaved()) {
    println 'qupath-bridge: nothing is saved; run QuPath script with --save to keep the tiles.'
    return
}
entry.putMetadataValue(pointer, folder.getName())
project.syncChanges()
if (window)
    Platform.runLater { getQuPath().refreshProject() }


/** The newest run that has tiles of an image; null if there is none. Run IDs sort by time. */
File newestRun(File runs, String entryId) {
    List<File> all = (runs.listFiles() ?: new File[0]).findAll { File each -> isRun(each) } as List<File>
    return all.sort { File each -> each.getName() }.reverse().find { File each -> listsEntry(each, entryId) }
}

/** Whether a folder is a finished run: its record is written last. */
boolean isRun(File folder) {
    return new File(folder, 'run.json').isFile()
}

/** Whether a run exported the image: it has the facts of it, and tiles unless it kept no patch. */
boolean listsEntry(File folder, String entryId) {
    return ['.geojson.gz', '.json'].any { String ending -> new File(folder, entryId + ending).isFile() }
}

/** The tiles in a file; fails if one of them is not ours. */
List<PathObject> readTiles(File file) {
    if (!file.isFile())
        return []
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

/** Whether the tiles that are there show what the new ones would show. */
boolean sameTiles(Collection<PathObject> old, Collection<PathObject> fresh) {
    Map<UUID, PathObject> before = old.collectEntries { PathObject tile -> [(tile.getID()): tile] }
    return old.size() == fresh.size() && fresh.every { PathObject tile ->
        PathObject was = before[tile.getID()]
        was != null && was.getPathClass() == tile.getPathClass() && was.getName() == tile.getName()
    }
}

/** Whether QuPath saves the image after this script. */
boolean isSaved() {
    return binding.hasVariable(ScriptAttributes.BATCH_SAVE) && binding.getVariable(ScriptAttributes.BATCH_SAVE)
}
