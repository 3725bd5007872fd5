// Prints what QuPath makes of each file of a folder: args are the answer and the folder.
import com.google.gson.GsonBuilder
import qupath.lib.io.PathIO

Class.forName('qupath.lib.scripting.QP')  // sets up reading of JSON
def shape = { r ->
    def area = r.getArea()
    def box = [r.getBoundsX(), r.getBoundsY(), r.getBoundsWidth(), r.getBoundsHeight()]
    [area: Math.round(area * 1e6) / 1e6, length: Math.round(r.getLength() * 1e6) / 1e6,
     box: r.isEmpty() && !r.isPoint() ? null : box, empty: r.isEmpty(), points: r.getNumPoints(),
     plane: [r.getC(), r.getZ(), r.getT()]]
}
def answer = new TreeMap()
new File(args[1]).listFiles().each { file ->
    def name = file.name - '.geojson'
    try {
        answer[name] = PathIO.readObjects(file.toPath()).collect { o -> [
            type: o.getClass().getSimpleName(), 'class': o.getPathClass()?.toString(),
            class_color: o.getPathClass()?.getColor(), name: o.getName(), color: o.getColor(),
            locked: o.isLocked(), missing: o.isTMACore() ? o.isMissing() : null,
            children: o.nChildObjects(),
            measurements: o.getMeasurements().collectEntries { k, v -> [k, v.toString()] },
            metadata: new TreeMap(o.getMetadata()), shape: shape(o.getROI()),
        ] }
    } catch (Throwable error) {
        answer[name] = error.getClass().getSimpleName()
    }
}
new File(args[0]).setText(new GsonBuilder().serializeNulls().setPrettyPrinting().create().toJson(answer), 'UTF-8')
