"""Whatever an image holds: what is written is read back, by both engines, and edited by both."""

import tempfile
from pathlib import Path

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qupath_bridge.model import Box, ObjectType, Plane
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.project_writer import NewEntry, create_project
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.roundtrip.comparing import differences, take_inventory, tile_hashes
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.sources.paquo import PaquoSource
from qupath_bridge.testing.data_files import cell_file
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.testing.strategies import images


def some_tiles(count):
    return [
        Tile(
            id=tile_uuid("1", 9 * i, 0, 9, 9),
            box=Box(9 * i, 0, 9, 9),
            plane=Plane(i % 2, 0),
            name=f"p{i}",
            class_path=("Tumor", None, "Tumor: Positive")[i % 3],
            color=(1, 2, 3) if i % 3 != 1 else None,
            measurements={"qb: share": i / 7},
            metadata={"qb.run": "R"},
        )
        for i in range(count)
    ]


def assert_same(one, other):
    assert list(differences(take_inventory(one), take_inventory(other))) == []


@pytest.mark.slow
@given(images(), st.integers(0, 3), st.data())
def test_embedded_reads_what_it_wrote_and_edits_it(image, count, data):
    content = encode_image_data(image)
    read = decode_image_data(content, detections=True)
    assert_same(image, read)
    own = [o.id for o in image.objects if o.object_type is ObjectType.TILE]
    gone = data.draw(st.sets(st.sampled_from(own))) if own else set()
    after = decode_image_data(
        splice_tiles(content, remove=gone, add=some_tiles(count)), detections=True
    )
    found = differences(
        take_inventory(read),
        take_inventory(after),
        removed=gone,
        added=tile_hashes(some_tiles(count)),
    )
    assert list(found) == []


@pytest.fixture(scope="module")
def paquo(installation):
    engine = PaquoSource(installation.installation)
    yield engine
    engine.close()


@pytest.mark.qupath
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.lists(images(), min_size=1, max_size=25))
def test_both_read_every_image_alike(paquo, drawn):
    with tempfile.TemporaryDirectory() as folder:
        slide = build_project(Path(folder, "s"), [Image(Path(folder, "a.svs"), size=(9000, 9000))])
        builder = EmbeddedSource().open(slide).slides[0].builder.json
        entries = [NewEntry(f"{i}", builder, image) for i, image in enumerate(drawn)]
        path = create_project(Path(folder, "project"), entries)
        with paquo.open(path) as theirs:
            for mine, other in zip(EmbeddedSource().open(path).slides, theirs.slides, strict=True):
                assert other == mine
                assert_same(mine.read(detections=True), other.read(detections=True))
                assert mine.read().skipped == other.read().skipped


@pytest.mark.qupath
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(images(), st.integers(0, 3), st.data())
def test_both_edit_every_image_alike(paquo, image, count, data):
    own = [o.id for o in image.objects if o.object_type is ObjectType.TILE]
    gone = data.draw(st.sets(st.sampled_from(own))) if own else set()
    with tempfile.TemporaryDirectory() as folder:
        path = build_project(Path(folder, "p"), [Image(Path(folder, "a.svs"), size=(900, 900))])
        slide = EmbeddedSource().open(path).slides[0]
        source = Path(folder, "data.qpdata")
        source.write_bytes(encode_image_data(image, server={"builderType": "uri"}))
        before = take_inventory(EmbeddedSource().read_file(source))
        for editor in (EmbeddedSource(), paquo):
            target = Path(folder, editor.name)
            editor.edit(source, target, slide=slide, remove=gone, add=some_tiles(count))
            for reader in (EmbeddedSource(), paquo):
                after = take_inventory(reader.read_file(target))
                found = differences(
                    before, after, removed=gone, added=tile_hashes(some_tiles(count))
                )
                assert list(found) == [], (editor.name, reader.name)


@pytest.mark.qupath
@pytest.mark.parametrize("count", [0, 100_000])
def test_very_many_objects(paquo, tmp_path, count):
    path = tmp_path / "data.qpdata"
    if count:
        path.write_bytes(cell_file(count, measurements=3))
    else:
        path.write_bytes(encode_image_data(decode_image_data(cell_file(0, annotations=0))))
    ours, theirs = (e.read_file(path, entry_id="1") for e in (EmbeddedSource(), paquo))
    assert len(ours.objects) == len(theirs.objects) >= count
    assert take_inventory(ours).hashes == take_inventory(theirs).hashes
    assert all(
        shapely.equals(a.roi.geometry, b.roi.geometry)
        for a, b in zip(ours.objects[::997], theirs.objects[::997], strict=True)
    )
