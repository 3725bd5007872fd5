// dump_data.groovy OUT.json DATA.qpdata
// Writes what QuPath's own classes read from a data file, for comparison with ours.
import com.google.gson.GsonBuilder
import java.util.Locale
import org.locationtech.jts.io.WKTWriter
import qupath.lib.io.PathIO
import qupath.lib.objects.hierarchy.PathObjectHierarchy

def number = { value -> value == null ? null : Double.toString(value as double) }

def shape = { roi ->
    roi == null ? null : [
        kind: roi.getRoiName(), c: roi.getC(), z: roi.getZ(), t: roi.getT(),
        area: number(roi.getArea()), wkt: new WKTWriter().write(roi.getGeometry()),
    ]
}

// The items as they come, as QuPath reads them itself.
def items = [:]
def end = null
new File(args[1]).withInputStream { raw ->
    def stream = PathIO.createObjectInputStream(raw)
    items.header = stream.readUTF()
    items.server = stream.readObject()
    while (end != 'EOF') {
        def item = stream.readObject()
        if (item instanceof String) end = item
        else if (item instanceof Locale) Locale.setDefault(Locale.Category.FORMAT, item)
        else if (item != null) items[item.getClass().getSimpleName()] = item
    }
}
def hierarchy = new PathObjectHierarchy()
hierarchy.setHierarchy(items.PathObjectHierarchy)

def objects = []
def walk
walk = { parent, index ->
    for (child in parent.getChildObjects()) {
        def list = child.getMeasurementList()
        def type = child.isTMACore() ? 'tmaCore' : child.isCell() ? 'cell' : child.isTile() ? 'tile' :
            child.isDetection() ? 'detection' : 'annotation'
        def pathClass = child.getPathClass()
        def own = objects.size()
        objects << [
            id: child.getID().toString(), type: type, parent: index, name: child.getName(),
            'class': pathClass?.toString(), classColor: pathClass?.getColor(), color: child.getColor(),
            locked: child.isLocked(), metadata: new LinkedHashMap(child.getUnmodifiableMetadataMap()),
            measurements: list.getMeasurementNames().collect { [it, number(list.get(it))] },
            probability: number(child.getClassProbability()),
            missing: type == 'tmaCore' ? child.isMissing() : null,
            roi: shape(child.getROI()), nucleus: type == 'cell' ? shape(child.getNucleusROI()) : null,
        ]
        walk(child, own)
    }
}
walk(hierarchy.getRootObject(), -1)

def grid = hierarchy.getTMAGrid()
def stains = items.ColorDeconvolutionStains
def result = [
    header: items.header, server: items.server, end: end, imageType: items.ImageType?.name(),
    stains: stains == null ? null : (1..3).collect { stains.getStain(it).getName() },
    steps: items.Workflow?.size(),
    properties: items.HashMap == null ? null : new TreeMap(items.HashMap.collectEntries { key, value ->
        [key, value instanceof String ? value : value.getClass().getName()]
    }),
    grid: grid == null ? null : [grid.getGridWidth(), grid.getGridHeight(),
        grid.getTMACoreList().collect { it.getID().toString() }],
    objects: objects,
]
new File(args[0]).setText(new GsonBuilder().serializeNulls().create().toJson(result), 'UTF-8')
