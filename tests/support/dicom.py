"""Small whole-slide DICOM files, tiled and complete, as scanners write them."""

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

SLIDE_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"

# Transfer syntax, and what the colours of its tiles are called.
ENCODINGS = {
    "native": (ExplicitVRLittleEndian, "RGB"),
    "jpeg": (JPEGBaseline8Bit, "YBR_FULL_422"),
    "jpeg2000": (JPEG2000Lossless, "YBR_RCT"),
}


def write_dicom(
    path, pixels, spacing, series, *, kind="VOLUME", number=1, tile=256, encoding="native"
):
    """Write one file of a series.

    spacing: µm per pixel in x and y. kind: VOLUME (a level), LABEL or OVERVIEW.
    """
    height, width = pixels.shape[:2]
    syntax, colours = ENCODINGS[encoding]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SLIDE_STORAGE
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path), series])
    meta.TransferSyntaxUID = syntax
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": SLIDE_STORAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["place", series]),
        "Modality": "SM",
        "PatientID": "P-0001",
        "PatientName": "Nobody",
        "InstanceNumber": number,
        "SeriesNumber": 1,
        "StudyID": "1",
        "StudyDate": "20260101",
        "StudyTime": "000000",
        "Manufacturer": "None",
        "ManufacturerModelName": "made",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "ContainerIdentifier": "S-1",
        "ImageType": (
            ["DERIVED", "PRIMARY", kind, "RESAMPLED"]
            if kind == "VOLUME" and number > 1
            else ["ORIGINAL", "PRIMARY", kind, "NONE"]
        ),
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": colours,
        "PlanarConfiguration": 0,
        "Rows": tile,
        "Columns": tile,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "TotalPixelMatrixColumns": width,
        "TotalPixelMatrixRows": height,
        "TotalPixelMatrixFocalPlanes": 1,
        "DimensionOrganizationType": "TILED_FULL",
        "VolumetricProperties": "VOLUME",
        "ImagedVolumeWidth": width * spacing[0] / 1000,
        "ImagedVolumeHeight": height * spacing[1] / 1000,
        "ImagedVolumeDepth": 0.001,
        "SpecimenLabelInImage": "NO",
        "BurnedInAnnotation": "NO",
        "FocusMethod": "AUTO",
        "ExtendedDepthOfField": "NO",
        "LossyImageCompression": "00",
        "ImageOrientationSlide": ["0", "-1", "0", "-1", "0", "0"],
        "OpticalPathSequence": [_item(OpticalPathIdentifier="1", ObjectiveLensPower="40")],
        "TotalPixelMatrixOriginSequence": [
            _item(XOffsetInSlideCoordinateSystem="0", YOffsetInSlideCoordinateSystem="0")
        ],
        "SharedFunctionalGroupsSequence": [
            _item(
                PixelMeasuresSequence=[
                    # The standard's order: between rows, then between columns.
                    _item(
                        PixelSpacing=[f"{spacing[1] / 1000:.9f}", f"{spacing[0] / 1000:.9f}"],
                        SliceThickness="0.001",
                    )
                ]
            )
        ],
    }
    tiles = _tiles(pixels, tile)
    values["NumberOfFrames"] = len(tiles)
    for name, value in values.items():
        setattr(file, name, value)
    file.PixelData = _encode(tiles, encoding)
    file["PixelData"].VR = "OB"
    file.save_as(str(path), enforce_file_format=True)
    return path


def _item(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _tiles(pixels, tile):
    """The tiles row by row; white beyond the edge."""
    height, width = pixels.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    whole = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    whole[:height, :width] = pixels
    tiles = whole.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return [np.ascontiguousarray(part) for part in tiles.reshape(-1, tile, tile, 3)]


def _encode(tiles, encoding):
    if encoding == "jpeg":
        return encapsulate(
            [imagecodecs.jpeg8_encode(part, level=98, subsampling="422") for part in tiles]
        )
    if encoding == "jpeg2000":
        options = {"codecformat": "j2k", "reversible": True, "mct": True, "level": 0}
        return encapsulate([imagecodecs.jpeg2k_encode(part, **options) for part in tiles])
    data = b"".join(part.tobytes() for part in tiles)
    return data + b"\0" * (len(data) % 2)
