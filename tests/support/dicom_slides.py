"""DICOM slides of several files, for tests; needs pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SERIES, FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.1.1", "1.2.826.0.1.3680043.8.498.1.2"
_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write_level(path: Path, pixels: np.ndarray, spacing: float, number: int, tile: int) -> None:
    """Write one level of a slide as a file of full tiles; spacing in mm per pixel."""
    height, width = pixels.shape[:2]
    tiles = []
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = pixels[top : top + tile, left : left + tile]
            whole = np.full((tile, tile, 3), 255, np.uint8)
            whole[: part.shape[0], : part.shape[1]] = part
            tiles.append(whole.tobytes())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _CLASS
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    values = {
        "SOPClassUID": _CLASS,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1.3",
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": FRAME_OF_REFERENCE,
        "Modality": "SM",
        "InstanceNumber": number,
        "ImageType": kind if number == 1 else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"],
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "Rows": tile,
        "Columns": tile,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "NumberOfFrames": len(tiles),
        "TotalPixelMatrixColumns": width,
        "TotalPixelMatrixRows": height,
        "TotalPixelMatrixFocalPlanes": 1,
        "DimensionOrganizationType": "TILED_FULL",
        "PixelData": b"".join(tiles),
    }
    for name, value in values.items():
        setattr(data, name, value)
    measures, groups, optics = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{spacing:.9f}"] * 2
    groups.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    optics.OpticalPathIdentifier = "1"
    data.OpticalPathSequence = Sequence([optics])
    data["PixelData"].VR = "OB"
    data.save_as(str(path), enforce_file_format=True)
