"""Stand-ins for cuCIM, CuPy and nvImageCodec: what the reader ``cucim`` calls of them.

imagecodecs and tifffile decode. Places, colours, batches and buffers work as in the real packages,
with their traps.
"""

import sys
from types import ModuleType, SimpleNamespace

import imagecodecs
import numpy as np
import tifffile


class CuImage:
    """A TIFF file whose pages are levels."""

    def __init__(self, path):
        self._file = tifffile.TiffFile(path)
        first, *others = [page for page in self._file.pages if page.is_tiled]
        self._pages = [first, *(page for page in others if page.imagewidth < first.imagewidth)]
        sizes = [(page.imagewidth, page.imagelength) for page in self._pages]
        self.resolutions = {
            "level_dimensions": tuple(sizes),
            "level_downsamples": tuple(float(np.float32(sizes[0][0] / w)) for w, _ in sizes),
        }
        self._memory = np.full(1 << 20, 77, np.uint8)

    def close(self):
        self._file.close()

    def read_region(self, location, size, level):
        """Return one tile. Of one that cannot be decoded it has what was in the memory."""
        width, height = self.resolutions["level_dimensions"][0]
        if size[0] > width or size[1] > height:
            raise ValueError("Invalid size (it exceeds the original image)")
        factor = np.float32(self.resolutions["level_downsamples"][level])
        x, y = (int(np.float32(place) / factor) for place in location)
        page = self._pages[level]
        assert (x % page.tilewidth, y % page.tilelength) == (0, 0)
        assert x + size[0] <= page.imagewidth
        assert y + size[1] <= page.imagelength
        view = self._memory[: size[0] * size[1] * 3].reshape(size[1], size[0], 3)
        index = y // page.tilelength * -(-page.imagewidth // page.tilewidth) + x // page.tilewidth
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(page.databytecounts[index])
        try:
            (tile,), _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except imagecodecs.Jpeg8Error:
            return _Region(view)
        view[:] = tile[: size[1], : size[0]]
        return _Region(view)


class _Region:
    """Memory that others use once nobody holds the region, whoever holds an array of it."""

    def __init__(self, view):
        self._view = view

    def __array__(self, dtype=None, copy=None):
        return self._view.copy() if copy else self._view

    def __del__(self):
        self._view[:] = 77


class Gpu:
    """A GPU with nvImageCodec; ``log`` has the sizes of its batches."""

    def __init__(self, ways=("HW_GPU_ONLY",), error=1):
        self.ways, self.error, self.log = ways, error, []

    def decode(self, backends, streams, params):
        self.log.append(len(streams))
        return [self._decode(backends, stream, params) for stream in streams]

    def _decode(self, backends, stream, params):
        if not set(backends) & set(self.ways):
            return None
        wanted = "RGB" if params["color_spec"] == "SRGB" else "YCBCR"
        try:  # data are taken for YCbCr, whatever a marker says
            pixels = imagecodecs.jpeg8_decode(stream, colorspace="YCBCR", outcolorspace=wanted)
        except imagecodecs.Jpeg8Error:
            return None
        pixels = pixels.astype(int)
        pixels[::3] += self.error
        pixels = pixels.clip(0, 255).astype(np.uint8)
        return SimpleNamespace(shape=pixels.shape, cpu=lambda: pixels)


class _Stream:
    """Copies are done when they are waited for."""

    ptr = 0

    def __init__(self, *, non_blocking):
        self.waiting = []

    def synchronize(self):
        for source, out in self.waiting:
            out[:] = source
        self.waiting = []


class _OnDevice:
    def __init__(self, image):
        self._pixels = image.cpu()

    def get(self, stream, *, out, blocking):
        assert not blocking
        out[:] = 99
        stream.waiting.append((self._pixels, out))


def install(monkeypatch, gpu=None):
    """Put the stand-ins where the packages are imported from; without a GPU CuPy finds none."""

    def count():
        if gpu is None:
            raise RuntimeError("CUDA driver version is insufficient")
        return 1

    class Decoder:
        def __init__(self, *, max_num_cpu_threads, backends):
            self._backends = backends

        def decode(self, streams, *, params, cuda_stream):
            return gpu.decode(self._backends, streams, params)

    cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count), Stream=_Stream)
    codec = {
        "__version__": "1.2.3", "HW_GPU_ONLY": "HW_GPU_ONLY", "HYBRID_CPU_GPU": "HYBRID_CPU_GPU",
        "Backend": str, "CodeStream": bytes, "DecodeParams": dict, "Decoder": Decoder,
        "ColorSpec": SimpleNamespace(SRGB="SRGB", SYCC="SYCC"),
    }  # fmt: skip
    modules = {
        "cucim": {"CuImage": CuImage},
        "cupy": {"cuda": cuda, "asarray": _OnDevice},
        "cupyx": {"empty_pinned": np.empty},
        "nvidia": {"nvimgcodec": SimpleNamespace(**codec)},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return gpu
