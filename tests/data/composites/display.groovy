import qupath.lib.display.ImageDisplay
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServers
import com.google.gson.Gson
def folder = new File(args[0])
def all = [:]
def shown = { d, img -> 
  def rgb = d.applyTransforms(img, null)
  def px = rgb.getRGB(0, 0, rgb.getWidth(), rgb.getHeight(), null, 0, rgb.getWidth())
  [channels: d.availableChannels().collect { [name: it.getName(), low: it.getMinDisplay(), high: it.getMaxDisplay(), color: it.getColor(), selected: d.selectedChannels().contains(it)] },
   rgb: px.collect { it & 0xffffff }] }
for (name in ["u16", "u8", "f32", "one", "flat"]) {
  def server = ImageServers.buildServer(new File(folder, name + ".tif").toURI().toString())
  def data = new ImageData(server)
  def d = ImageDisplay.create(data)
  def img = server.readRegion(1.0, 0, 0, server.getWidth(), server.getHeight())
  def entry = [server: server.getClass().getSimpleName(), type: server.getPixelType().toString(), auto: shown(d, img)]
  d.availableChannels().eachWithIndex { c, i -> d.setMinMaxDisplay(c, (float)(c.getMinDisplay() * 0.5 + i), (float)(c.getMaxDisplay() * 0.7)) }
  if (d.availableChannels().size() > 1) d.setChannelSelected(d.availableChannels().get(1), false)
  entry.changed = shown(d, img)
  entry.property = data.getProperty("qupath.lib.display.ImageDisplay")
  all[name] = entry
}
new File(folder, "golden.json").text = new Gson().toJson(all)
println "written"
