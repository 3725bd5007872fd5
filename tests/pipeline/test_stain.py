from types import SimpleNamespace

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.pipeline.channels import file_view
from qupath_bridge.pipeline.stain import StainPlan, plan_stain
from qupath_bridge.qupath.qpdata.history import stain_numbers
from qupath_bridge.testing.slides import write_slide

STAINS = np.array([[0.62, 0.68, 0.38], [0.15, 0.85, 0.5]])
TEXT = (
    '{"Name": "H&E default", "Stain 1": "Hematoxylin", "Values 1": "0.6 0.7 0.3", '
    '"Stain 2": "Eosin", "Values 2": "0,1 0,9 0,4", "Background": "244 243 242"}'
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    rng = np.random.default_rng(1)
    amounts = 2 * rng.random((48, 48, 2)).repeat(8, 0).repeat(8, 1) ** 2
    amounts[:, 256:] = 0
    path = tmp_path_factory.mktemp("stain") / "slide.tiff"
    write_slide(path, np.rint(240 * np.exp(-amounts @ STAINS)).astype(np.uint8), mpp=0.5, tile=64)
    with qb.open_reader(path) as reader:
        yield reader


def plan(reader, stains, **options):
    config = qb.ExportConfig(size=64, **options)
    builder = qb.ServerBuilder({"builderType": "uri", "uri": "file:/slide.tiff", "args": []})
    coordinates = qb.coordinates.coordinate_map(builder, file_size=reader.size, bounds=None)
    view = file_view(reader)
    return plan_stain(
        config, reader, coordinates, view, SimpleNamespace(box_width=64, mpp=0.5), stains
    )


def test_vectors_and_background_are_those_of_qupath(reader):
    found, warnings = plan(reader, stain_numbers(TEXT), stain="qupath")
    expected = np.array([[0.6, 0.7, 0.3], [0.1, 0.9, 0.4]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(found.profile["vectors"], expected, atol=1e-5)
    assert list(found.profile["white"]) == [244, 243, 242]
    assert warnings == ()


@pytest.mark.parametrize(
    "stains",
    [
        None,
        {"text": "unreadable"},
        stain_numbers('{"Stain 1": "H", "Values 1": "0.6 0.7 0.3"}'),
        stain_numbers(TEXT.replace("0,1 0,9 0,4", "x y z")),
    ],
)
def test_without_vectors_of_qupath_the_colours_stay(reader, stains):
    found, (warning,) = plan(reader, stains, stain="qupath")
    assert (found.profile, found.target) == (None, None)
    assert "Set the image type in QuPath" in warning
    batch = np.zeros((3, 8, 8, 3), np.uint8)
    made, kept = found.normaliser()(batch, None)
    assert made is batch
    assert kept.all()


def test_a_plan_comes_back_from_its_facts(reader):
    found, _ = plan(reader, None, stain="macenko", stain_augment=0.2)
    assert StainPlan.from_json(found.as_json()) == found
    assert StainPlan.from_json(None) is None
    assert plan(reader, None, stain="macenko", stain_augment=0.2)[0] == found


def test_draws_belong_to_slide_and_place(reader):
    found, _ = plan(reader, None, stain="macenko", stain_augment=0.2)
    boxes = np.array([[0, 0, 64, 64], [64, 0, 64, 64], [0, 64, 64, 64]])
    draws = found.draws("xxh3:1", boxes, qb.Plane(0, 0))
    assert draws.shape == (3, 4)
    assert 0.05 < np.abs(draws).max() <= 0.2
    assert np.array_equal(found.draws("xxh3:1", boxes[1:], qb.Plane(0, 0)), draws[1:])
    for other in (("xxh3:2", boxes, qb.Plane(0, 0)), ("xxh3:1", boxes, qb.Plane(1, 0))):
        assert not np.isclose(found.draws(*other), draws).any()
    plain, _ = plan(reader, None, stain="macenko")
    assert plain.draws("xxh3:1", boxes, qb.Plane(0, 0)) is None
