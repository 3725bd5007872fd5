"""Containers of arrays: what h5py and zarr read, beside what OpenSlide and the index say."""

import sys
from pathlib import Path

import h5py
import numpy as np
import openslide
import pytest
import zarr

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.outputs import Location, PatchRef, open_output
from qupath_bridge.testing.contracts.output import rows_of

CONTAINERS = ("h5", "zarr")


@pytest.fixture(params=CONTAINERS)
def container(request):
    return request.param


def arrays(out, slide_id):
    """Return all arrays of a slide, and the attributes of ``coords``, as their library reads."""
    if (out / "patches" / f"{slide_id}.h5").exists():
        with h5py.File(out / "patches" / f"{slide_id}.h5") as file:
            found = {name: file[name][:] for name in file}
            return found, dict(file["coords"].attrs)
    group = zarr.open_group(out / "patches" / f"{slide_id}.zarr", mode="r")
    return {name: array[:] for name, array in group.arrays()}, dict(group["coords"].attrs)


def contents(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in (out / "patches").rglob("*")
        if path.is_file()
    }


def config_of(container, **changes):
    return qb.ExportConfig(size=50, min_share=0.4, container=container, **changes)


def export(study, out, container, workers=None, **changes):
    return qb.export(study.project, out, config_of(container, **changes), workers=workers)


def slides(out):
    return open_output(out).slides()


def test_images_are_what_openslide_shows_at_their_coordinates(study, tmp_path, container):
    run = export(study, tmp_path / "out", container)
    rows = run.table().to_pylist()
    for slide_id, file in zip(slides(tmp_path / "out"), study.slides, strict=True):
        own = [row for row in rows if row["slide_id"] == slide_id]
        found, about = arrays(tmp_path / "out", slide_id)
        assert set(found) == {"images", "coords", "index_row"}
        assert found["images"].shape == (len(own), 50, 50, 3)
        assert found["images"].dtype == np.uint8
        assert found["coords"].dtype == np.int64
        assert sorted(found["index_row"].tolist()) == list(range(len(own)))
        with openslide.OpenSlide(file) as slide:
            columns = [found[name] for name in ("images", "coords", "index_row")]
            for image, place, row in zip(*columns, strict=True):
                # As CLAM reads a patch: from its level, with its size there.
                size = (about["patch_size"],) * 2
                region = slide.read_region(place.tolist(), about["patch_level"], size)
                assert np.array_equal(image, region.convert("RGB"))
                assert place.tolist() == [own[row]["x_slide"], own[row]["y_slide"]]
    assert qb.verify(tmp_path / "out").pixels == len(rows) > 20


def test_a_patch_of_a_coarser_resolution_has_the_size_of_its_box(study, tmp_path, container):
    export(study, tmp_path / "out", container, mpp=1.0)
    slide_id = slides(tmp_path / "out")[0]
    found, about = arrays(tmp_path / "out", slide_id)
    assert found["images"].shape[1:] == (50, 50, 3)
    assert (about["patch_size"], about["patch_level"]) == (100, 0)


def test_the_index_says_where_the_bytes_of_a_patch_are(study, tmp_path, container):
    run = export(study, tmp_path / "out", container)
    slide_id = slides(tmp_path / "out")[0]
    found, _ = arrays(tmp_path / "out", slide_id)
    images = dict(zip(found["index_row"].tolist(), found["images"], strict=True))
    rows = [row for row in run.table().to_pylist() if row["slide_id"] == slide_id]
    for number, row in enumerate(rows):
        data = (tmp_path / "out" / row["path"]).read_bytes()
        patch = data[row["offset"] : row["offset"] + row["length"]]
        assert patch == images[number].tobytes()


def test_workers_do_not_matter(study, tmp_path, container):
    for workers in (1, 3):
        export(study, tmp_path / str(workers), container, workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def check_that_a_changed_patch_is_found(run, out):
    row = run.table().to_pylist()[3]
    path = out / row["path"]
    data = bytearray(path.read_bytes())
    data[row["offset"] + 17] ^= 1
    path.write_bytes(data)
    (finding,) = qb.verify(out, pixels=0).findings
    assert finding.kind == "changed"
    assert finding.path == f"{row['path']}@{row['offset']}"
    assert "other bytes than were written" in finding.problem


def test_a_changed_patch_is_found(study, tmp_path, container):
    run = export(study, tmp_path / "out", container)
    check_that_a_changed_patch_is_found(run, tmp_path / "out")


def test_resume_makes_a_slide_again_whose_file_was_cut(study, tmp_path, container):
    out = tmp_path / "out"
    run = export(study, out, container)
    before = contents(out)
    path = out / run.table().to_pylist()[0]["path"]
    path.write_bytes(path.read_bytes()[:3000])
    qb.export(study.project, out, config_of(container), resume=True)
    assert contents(out) == before
    assert qb.verify(out).ok


def test_update_equals_a_new_export(study, tmp_path, container, redrawn):
    export(study, tmp_path / "updated", container)
    redrawn(60)
    export(study, tmp_path / "new", container)
    qb.export(study.project, tmp_path / "updated", config_of(container), update=True)
    assert contents(tmp_path / "updated") == contents(tmp_path / "new")
    assert qb.verify(tmp_path / "updated").ok


def test_a_slide_that_is_removed_leaves_nothing(study, tmp_path, container):
    export(study, tmp_path / "out", container)
    output = open_output(tmp_path / "out")
    for slide_id in output.slides():
        output.remove(slide_id)
    assert contents(tmp_path / "out") == {}
    assert not (tmp_path / "out" / "patches").exists()


def test_containers_of_arrays_need_no_format_and_take_no_other(container):
    config = qb.ExportConfig(container=container)
    assert config.format == "raw"
    assert config == qb.ExportConfig(container=container, format="raw")
    assert config.replace(container="tar").format == "png"
    assert qb.ExportConfig().replace(container=container).format == "raw"
    with pytest.raises(qb.ConfigError, match=f"format is raw in the container {container}"):
        qb.ExportConfig(container=container, format="jpeg")
    with pytest.raises(qb.ConfigError, match="format is raw"):
        qb.ExportConfig(format="png").replace(container=container)


def test_raw_pixels_in_files_can_be_verified_too(study, tmp_path):
    config = qb.ExportConfig(size=50, min_share=0.4, format="raw", container="tar")
    run = qb.export(study.project, tmp_path / "out", config)
    assert {row["length"] for row in run.table().to_pylist()} == {50 * 50 * 3}
    result = qb.verify(tmp_path / "out")
    assert result.ok
    assert result.pixels
    check_that_a_changed_patch_is_found(run, tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_raw_pixels_in_files_are_compared_across_folds(study, tmp_path, kind):
    config = qb.ExportConfig(size=50, min_share=0.4, format="raw", container=kind)
    run = qb.export(study.project, tmp_path / "out", config)
    table = "".join(f"{name},{n}\n" for n, name in enumerate(slides(tmp_path / "out")))
    open_output(tmp_path / "out").put("splits/own.csv", f"slide_id,fold\n{table}".encode())
    assert qb.check_leakage(tmp_path / "out", "own").compared == run.table().num_rows


def test_patches_of_two_shapes_are_refused(tmp_path, container):
    output = open_output(tmp_path, container)
    output.begin("1_a")
    output.write(PatchRef("1_a", "1_a_x0_y0", ""), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(qb.UsageError, match=r"1_a has patches of .* in one array"):
        output.write(PatchRef("1_a", "1_a_x9_y0", ""), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(qb.UsageError, match="takes pixels, not encoded files"):
        output.write(PatchRef("1_a", "1_a_x9_y0", ""), b"")
    output.abort("1_a")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_any_number_of_patches(tmp_path, container, count):
    """Those that are written and then not listed are in no row, and have no coordinates."""
    output = open_output(tmp_path, container)
    output.begin("1_a")
    refs, places, images = [], [], []
    for number in range(count):
        refs.append(PatchRef("1_a", f"1_a_x{number}_y0", ""))
        images.append(np.full((4, 5, 3), number, np.uint8))
        places.append(output.write(refs[-1], images[-1]))
    kept = [number for number in range(count) if number % 7 != 3]
    chosen = [[each[number] for number in kept] for each in (refs, places, images)]
    output.commit("1_a", rows_of(*chosen[:2], [image.tobytes() for image in chosen[2]]))
    found, _ = arrays(tmp_path, "1_a")
    assert np.array_equal(found["images"], images)
    expected = np.full(count, -1)
    expected[kept] = range(len(kept))
    assert np.array_equal(found["index_row"], expected)
    table = output.table("1_a")
    columns = [table.column(name).to_pylist() for name in ("path", "offset", "length")]
    for number, place in zip(kept, zip(*columns, strict=True), strict=True):
        assert output.read(Location(*place)) == images[number].tobytes()


def test_without_h5py_it_is_said_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "qupath_bridge.outputs.h5", raising=False)
    with pytest.raises(MissingDependencyError, match="output 'h5'.*cannot be loaded") as caught:
        open_output(tmp_path, "h5")
    assert "pip install 'qupath-bridge[h5]'" in caught.value.hint
    assert qb.ExportConfig(container="h5").container == "h5"
    assert registry.names("output")


def test_hdf5_that_cannot_write_says_where(tmp_path, monkeypatch):
    output = open_output(tmp_path, "h5")
    output.begin("1_a")

    def fail(*args, **kwargs):
        raise OSError("Can't write data (file write failed)")

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(qb.OutputError, match=r"patches/1_a\.h5 cannot be written") as caught:
        output.write(PatchRef("1_a", "1_a_x0_y0", ""), np.zeros((8, 9, 3), np.uint8))
    assert "Free disk space" in caught.value.hint
    output.abort("1_a")
    assert not any(Path(tmp_path).rglob("*.*"))
