/**
 * Makes a project over the images of tests/support/channel_images.py, and writes what QuPath itself
 * reads from each entry. Arguments: folder with "images" in it, folder of the new project, folder
 * for what QuPath reads, and the names of the entries that are made (all without it).
 */
import com.google.gson.GsonBuilder
import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.color.ColorDeconvolutionStains.DefaultColorDeconvolutionStains
import qupath.lib.display.ImageDisplay
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ColorTransforms
import qupath.lib.images.servers.ImageChannel
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.ImageServers
import qupath.lib.images.servers.PixelType
import qupath.lib.images.servers.RotatedImageServer.Rotation
import qupath.lib.images.servers.TransformedServerBuilder
import qupath.lib.images.writers.ImageWriterTools
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.Projects
import qupath.lib.regions.ImagePlane
import qupath.lib.regions.ImageRegion
import qupath.lib.regions.RegionRequest
import qupath.lib.roi.ROIs

import javax.imageio.ImageIO
import java.awt.image.BufferedImage

images = new File(args[0], 'images')
folder = new File(args[1])
truth = new File(args[2])
wanted = args.size() > 3 ? args[3].split(',') as Set : null
[folder, truth].each { it.mkdirs() }

def open(String name) {
    // As QuPath's own import: the first that can read the file.
    ImageServers.buildServer(new File(images, name).toURI())
}

def steps(String name) { new TransformedServerBuilder(open(name)) }

def renamed(server, List<String> names, List<Integer> colors = null) {
    def channels = names.withIndex().collect { name, i ->
        ImageChannel.getInstance(name, colors == null ? server.getChannel(i).getColor() : colors[i])
    }
    server.setMetadata(new ImageServerMetadata.Builder(server.getMetadata()).channels(channels).build())
    server
}

def four = 'ij-u16-c4.tif', stack = 'ij-u16-c2-z3-t2.tif', real = 'ij-f32-c3.tif', rgb = 'ij-rgb.tif'
def stains = ColorDeconvolutionStains.makeDefaultColorDeconvolutionStains(DefaultColorDeconvolutionStains.H_E)
def own = ColorDeconvolutionStains.parseColorDeconvolutionStainsArg(
    '{"Name" : "own", "Stain 1" : "H", "Values 1" : "0.62 0.71 0.33", "Stain 2" : "E", ' +
    '"Values 2" : "0.1 0.95 0.29", "Background" : " 240 235 245"}')

cases = [:]
images.list().sort().each { name -> cases[name] = { open(name) } }
cases += [
    'renamed'          : { renamed(open(four), ['Nuclei', 'T cells', 'CD8', 'Tumor: µ']) },
    'recoloured'       : { renamed(open(four), ['DAPI', 'CD3', 'CD8', 'PanCK'], [0xFF6600, 0x123456, 0xFFFFFF, 0x00FF00].collect { it as int }) },
    'names exchanged'  : { renamed(open(four), ['CD3', 'DAPI', 'CD8', 'PanCK']) },
    'display set'      : { open(four) },
    'rotated'          : { steps(four).rotate(Rotation.ROTATE_90).build() },
    'cropped stack'    : { steps(stack).crop(ImageRegion.createInstance(10, 7, 50, 40, 0, 0)).build() },
    'pyramid'          : { ImageServers.pyramidalize(open(four), 1.0, 2.0) },
    'channels by index': { steps(four).extractChannels(2, 0).build() },
    'channels by name' : { steps(four).extractChannels('PanCK', 'CD3').build() },
    'channel twice'    : { steps(four).extractChannels(1, 1).build() },
    'renamed by name'  : { new TransformedServerBuilder(renamed(open(four), ['Nuclei', 'CD3', 'CD8', 'PanCK'])).extractChannels('CD8', 'Nuclei').build() },
    'channels of stack': { steps(stack).extractChannels(1).build() },
    'channels turned'  : { steps(four).extractChannels(3, 0).rotate(Rotation.ROTATE_270).build() },
    'channels as words': { steps(four).extractChannels(3, 1).convertType(PixelType.UINT16).build() },
    'mean'             : { steps(four).averageChannelProject().build() },
    'maximum'          : { steps(four).maxChannelProject().build() },
    'minimum'          : { steps(four).minChannelProject().build() },
    'linear'           : { steps(four).applyColorTransforms(ColorTransforms.createLinearCombinationChannelTransform(0.5, 0.25, -1.0)).build() },
    'to uint8'         : { steps(real).convertType(PixelType.UINT8).build() },
    'to uint16'        : { steps(real).convertType(PixelType.UINT16).build() },
    'to int16'         : { steps(real).convertType(PixelType.INT16).build() },
    'to int32'         : { steps(real).convertType(PixelType.INT32).build() },
    'to float32'       : { steps(four).convertType(PixelType.FLOAT32).build() },
    'rgb to float64'   : { steps(rgb).convertType(PixelType.FLOAT64).build() },
    'words to bytes'   : { steps(four).convertType(PixelType.UINT8).build() },
    'stains'           : { steps(rgb).deconvolveStains(stains).build() },
    'stains 2 1'       : { steps(rgb).deconvolveStains(stains, 2, 1).build() },
    'own stains'       : { steps(rgb).deconvolveStains(own).build() },
    'stains as words'  : { steps(rgb).deconvolveStains(stains, 1).convertType(PixelType.UINT8).build() },
    'stain transform'  : { steps(rgb).applyColorTransforms(ColorTransforms.createColorDeconvolvedChannel(stains, 1)).build() },
    'joined'           : { steps('ij-u8-c3.tif').concatChannels(open('ij-u8-c1.tif')).build() },
    'normalized'       : { steps(rgb).stainNormalize(stains, own).build() },
    'projected'        : { steps(stack).zProjectMax().build() },
    'sliced'           : { steps(stack).slice(1, 3, 0, 1).build() },
]

def drawn(server) {
    def middle = ImagePlane.getPlane(server.nZSlices().intdiv(2), 0)
    def tumor = ROIs.createRectangleROI(8, 8, 40, 24, middle)
    double[] x = [4, 44, 36, 12], y = [36, 34, 40, 39]
    def stroma = ROIs.createPolygonROI(x, y, ImagePlane.getDefaultPlane())
    [[tumor, 'Tumor'], [stroma, 'Stroma']].collect { roi, name ->
        PathObjects.createAnnotationObject(roi, PathClass.fromString(name))
    }
}

/** Write all values as big-endian doubles: band after band, each in rows. */
def values(server, double downsample, int x, int y, int w, int h, int z, int t, File file) {
    def image = server.readRegion(RegionRequest.createInstance(server.getPath(), downsample, x, y, w, h, z, t))
    def raster = image.getRaster()
    def buffer = java.nio.ByteBuffer.allocate(8 * image.getWidth() * image.getHeight() * server.nChannels())
    for (int band = 0; band < server.nChannels(); band++) {
        double[] samples = raster.getSamples(0, 0, image.getWidth(), image.getHeight(), band, (double[]) null)
        buffer.asDoubleBuffer().put(samples)
        buffer.position(buffer.position() + 8 * samples.length)
    }
    file.bytes = buffer.array()
    [file: file.getName(), shape: [server.nChannels(), image.getHeight(), image.getWidth()], downsample: downsample, x: x, y: y, z: z, t: t]
}

def shown(data, name) {
    def display = ImageDisplay.create(data), server = data.getServer()
    def plane = [server.nZSlices().intdiv(2), server.nTimepoints().intdiv(2)]
    def image = server.readRegion(RegionRequest.createInstance(server.getPath(), 1.0, 0, 0, server.getWidth(), server.getHeight(), plane[0], plane[1]))
    ImageIO.write(display.applyTransforms(image, null), 'PNG', new File(truth, name + '.png'))
    [plane: plane, channels: display.availableChannels().collect {
        [name: it.getName(), low: it.getMinDisplay(), high: it.getMaxDisplay(), color: it.getColor(), selected: display.selectedChannels().contains(it)]
    }]
}

def made = Projects.createProject(folder, BufferedImage)
made.setPathClasses([PathClass.getNullClass(), PathClass.fromString('Tumor'), PathClass.fromString('Stroma')])
facts = []
cases.each { name, make ->
    if (wanted != null && !(name in wanted))
        return
    def fact = [name: name]
    def stage = 'open'
    try {
        def server = make()
        def entry = made.addImage(server.getBuilder())
        entry.setImageName(name)
        def data = entry.readImageData()
        server = data.getServer()
        fact += [id: entry.getID(), server: server.getServerType(), size: [server.getWidth(), server.getHeight()],
                 planes: [server.nZSlices(), server.nTimepoints()], type: server.getPixelType().toString(), rgb: server.isRGB(),
                 channels: server.getMetadata().getChannels().collect { [it.getName(), it.getColor()] },
                 pixel: [server.getPixelCalibration().getPixelWidthMicrons(), server.getPixelCalibration().getPixelHeightMicrons()],
                 downsamples: server.getPreferredDownsamples() as List]
        data.setImageType(server.isRGB() ? ImageData.ImageType.BRIGHTFIELD_H_E : ImageData.ImageType.FLUORESCENCE)
        def annotations = drawn(server)
        data.getHierarchy().addObjects(annotations)
        fact.annotations = annotations.collect { [id: it.getID().toString(), class: it.getPathClass().toString(), area: it.getROI().getArea(), z: it.getROI().getZ()] }
        if (name == 'display set') {
            def display = ImageDisplay.create(data), infos = display.availableChannels()
            display.setMinMaxDisplay(infos[0], 300f, 1500f)
            display.setMinMaxDisplay(infos[1], 250.5f, 2000.25f)
            display.setChannelSelected(infos[2], false)
            display.saveChannelColorProperties()
        }
        stage = 'save'
        entry.saveImageData(data)
        def file = entry.getID()
        stage = 'show'  // before all is read: QuPath takes its histograms from what it holds
        if (!server.isRGB())
            fact.display = shown(data, file)
        stage = 'read'
        fact.reads = []
        for (int t = 0; t < server.nTimepoints(); t++)
            for (int z = 0; z < server.nZSlices(); z++) {
                fact.reads << values(server, 1.0, 0, 0, server.getWidth(), server.getHeight(), z, t, new File(truth, "${file}-${z}-${t}.raw"))
                fact.reads << values(server, 1.0, 16, 8, 24, 16, z, t, new File(truth, "${file}-${z}-${t}-part.raw"))
            }
        if (server.nResolutions() > 1)
            fact.reads << values(server, server.getDownsampleForResolution(1), 0, 0, server.getWidth(), server.getHeight(), 0, 0, new File(truth, "${file}-level.raw"))
        if (name in [four, 'u16-c7-z3.ome.tif'])
            ImageWriterTools.writeImageRegion(server, RegionRequest.createInstance(server.getPath(), 1.0, 16, 8, 24, 16), new File(truth, "${file}.tif").getPath())
    } catch (Throwable error) {
        fact.error = stage + ': ' + error
        error.printStackTrace()
    }
    println "CASE ${name}: ${fact.error ?: 'ok'}"
    facts << fact
}
made.syncChanges()
new File(truth, 'facts.json').text = new GsonBuilder().setPrettyPrinting().serializeSpecialFloatingPointValues().create().toJson(facts)
