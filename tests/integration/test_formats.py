import io
import json

import imagecodecs
import numpy as np
import openslide
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.pipeline.records import config_digest

LOSSLESS = ("png", "tiff", "webp", "jxl")


def shown(path):
    data = path.read_bytes()
    if path.suffix == ".jxl":
        return imagecodecs.jpegxl_decode(data)
    return np.asarray(Picture.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_files_of_every_lossless_format_show_what_openslide_shows(kind, study, tmp_path):
    config = qb.ExportConfig(size=50, min_share=0.4, format=kind)
    run = qb.export(study.project, tmp_path / "out", config)
    rows = run.table().to_pylist()
    assert len(rows) > 20
    verified = qb.verify(tmp_path / "out")
    assert verified.ok
    assert verified.pixels == len(rows)
    for slide in study.slides:
        with openslide.OpenSlide(slide) as opened:
            for row in rows:
                if row["slide_file"] == slide.name:
                    place = row["x_slide"], row["y_slide"]
                    expected = opened.read_region(place, 0, (50, 50)).convert("RGB")
                    assert np.array_equal(shown(tmp_path / "out" / row["path"]), expected)


@pytest.mark.parametrize(("kind", "portable"), [("png", False), ("jpeg", True)])
def test_a_run_says_whether_its_bytes_depend_on_the_processor(kind, portable, study, tmp_path):
    qb.export(study.project, tmp_path / "out", qb.ExportConfig(size=100, format=kind))
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["encoder"] == {"name": kind, "portable": portable}
    assert record["tool"]["libraries"]["isal"]


def test_the_subsampling_decides_bytes_and_digests(study, tmp_path):
    digests, sizes = set(), []
    for subsampling in ("420", "422", "444"):
        config = qb.ExportConfig(size=100, format="jpeg", jpeg_subsampling=subsampling)
        out = tmp_path / subsampling
        run = qb.export(study.project, out, config)
        digests |= {config_digest(config), run.record["run_digest"]}
        paths = sorted(out.glob("patches/**/*.jpg"))
        factors = {Picture.open(io.BytesIO(path.read_bytes())).layer[0][1:3] for path in paths}
        assert factors == {{"420": (2, 2), "422": (2, 1), "444": (1, 1)}[subsampling]}
        sizes.append(sum(path.stat().st_size for path in paths))
        assert qb.verify(out).ok
    assert len(digests) == 6
    assert sizes == sorted(sizes)


def test_a_number_in_a_file_stands_for_the_subsampling(tmp_path):
    path = tmp_path / "options.toml"
    path.write_text("[pixels]\njpeg_subsampling = 444\n", encoding="utf-8")
    assert qb.Settings.load(path).config.jpeg_subsampling == "444"
    with pytest.raises(qb.ConfigError, match="jpeg_subsampling: should be '420', '422' or '444'"):
        qb.ExportConfig(jpeg_subsampling="411")
