"""Slides of several files in object storage; a store in memory stands for a bucket."""

import pytest

import qupath_bridge as qb
from qupath_bridge.stores.memory import MemoryStore
from tests.support.buckets import count_bytes, upload
from tests.support.slide_folders import check_staging, dicom_folder, mirax_folder


@pytest.fixture
def asked(monkeypatch):
    """Bytes that are read of each object."""
    return count_bytes(monkeypatch, MemoryStore)


@pytest.mark.parametrize("make", [dicom_folder, mirax_folder])
def test_a_slide_of_several_files_comes_whole_and_goes_whole(tmp_path, bucket, asked, make):
    local = make(tmp_path / "slides")
    upload(local.parent, bucket.url)
    check_staging(local, bucket.url, asked, tmp_path)


@pytest.mark.parametrize(("make", "slides"), [(dicom_folder, 3), (mirax_folder, 2)])
def test_a_folder_of_such_slides_is_exported(tmp_path, bucket, make, slides):
    folder = make(tmp_path / "slides").parent
    upload(folder, bucket.url)
    config = qb.ExportConfig(size=16, stride=100, labels=False, level_zero=True)
    here = qb.export(folder, tmp_path / "disk", config)
    there = qb.export(bucket.url, tmp_path / "url", config)
    assert len(there) == slides and there.failures == ()
    assert there.written == here.written > slides
    left, right = (run.table().drop_columns(["run_id", "project"]) for run in (here, there))
    assert left.equals(right)
    assert qb.verify(there).ok
