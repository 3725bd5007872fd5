"""Weights & Biases, offline: what it would send, read with its own message types."""

import io
import json

import pytest
from PIL import Image

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.cli import main
from qupath_bridge.testing.contracts.tracker import Received, TrackerContract
from tests.support import wandb_files
from tests.support.encoders import weights_of, write_encoder

wandb = pytest.importorskip("wandb", reason="wandb is not installed")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Keep everything that it writes in one folder, and let nothing leave the machine."""
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield folder
    wandb.teardown()


class TestWandb(TrackerContract):
    @pytest.fixture(autouse=True)
    def place(self, offline):
        self.folder = offline

    def make(self):
        return registry.create("tracker", "wandb:tests")

    def make_broken(self):
        (self.folder / "wandb").write_text("no folder")
        return self.make()

    def received(self):
        wandb.teardown()  # its process writes the end of the file
        return [
            Received(each.name, each.metadata, each.files)
            for each in wandb_files.artifacts(self.folder)
        ]


def test_without_wandb_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("qupath_bridge.tracking.wandb.find_spec", lambda name: None)
    with pytest.raises(qb.MissingDependencyError, match=r"qupath-bridge\[wandb\]"):
        registry.create("tracker", "wandb")


def test_a_project_of_the_option_wins_over_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert registry.create("tracker", "wandb").project == "other"
    assert registry.create("tracker", "wandb:mine").project == "mine"
    monkeypatch.delenv("WANDB_PROJECT")
    assert registry.create("tracker", "wandb").project == "qupath-bridge"


# --- runs ----------------------------------------------------------------------------------------


def test_an_export_is_tracked_when_it_is_complete(study, offline):
    config = qb.ExportConfig(size=100, min_share=0.4)
    run = qb.export(study.project, study.folder / "out", config, track="wandb", provenance=False)
    assert not run.warnings
    wandb.teardown()
    (found,) = wandb_files.artifacts(offline)
    assert (found.name, found.kind) == ("out", "dataset")
    assert found.metadata["digest"] == run.record["run_digest"]
    assert found.metadata["patches"] == run.written and found.metadata["place"] == run.url
    assert json.loads(found.files["run.json"]) == run.record
    with Image.open(io.BytesIO(found.files["contact_sheet.png"])) as sheet:
        assert sheet.size == (804, 116 * len(run.label_counts()))
    # No patch is sent, and nothing of the machine.
    sent = wandb_files.raw(offline)
    for row in run.table().to_pylist():
        assert (run.out / row["path"]).read_bytes() not in sent
    (about,) = wandb_files.runs(offline)
    assert not about.host and not about.git.remote_url
    said = {each.key: json.loads(each.value_json) for each in about.config.update}
    assert said["labels"] == run.label_counts() and said["export"]["size"] == 100


def test_pseudonyms_stay_pseudonyms(study, tmp_path, offline):
    """Also the place of the output, which somebody may have named after a patient."""
    out = tmp_path / "slide 1 of Ann"
    words = ["--size", "100", "--min-share", "0.4", "--pseudonymise", str(tmp_path / "key.json")]
    assert main(["export", str(study.project), "--out", str(out), *words]) == 0
    assert main(["track", str(out), "--to", "wandb"]) == 0
    wandb.teardown()
    (found,) = wandb_files.artifacts(offline)
    assert found.name == found.metadata["run_id"] and "place" not in found.metadata
    # Its own log says where its files are, and stays here.
    sent = b"".join(found.files.values()) + json.dumps(found.metadata).encode()
    for secret in (b"slide 1", b"slide_1", b"slide-1", b"Ann", b"study"):
        assert secret not in sent


def test_features_are_tracked_with_their_run(study, tmp_path, offline, capsys):
    config = qb.ExportConfig(size=32, min_share=0.4)
    run = qb.export(study.project, tmp_path / "out", config, provenance=False)
    encoder = write_encoder(tmp_path / "encoder", weights_of(32, 4))
    words = ["features", str(run.out), "--encoder", str(encoder), "--track", "wandb"]
    assert main(words) == 0, capsys.readouterr().err
    wandb.teardown()
    first, second = wandb_files.artifacts(offline)
    assert (first.kind, second.kind) == ("dataset", "features")
    assert second.metadata["dataset"] == first.metadata["digest"] == run.record["run_digest"]
    assert second.metadata["patches"] == run.written


def test_a_failure_to_track_is_a_warning_with_the_command_that_does_it(study, tmp_path, offline):
    (offline / "wandb").write_text("no folder")
    config = qb.ExportConfig(size=100, min_share=0.4)
    run = qb.export(study.project, tmp_path / "out", config, track="wandb", provenance=False)
    assert run.record["state"] == "complete" and run.written
    (warning,) = run.warnings
    assert "Not tracked" in warning and f"qupath-bridge track {run.place} --to wandb" in warning
    (offline / "wandb").unlink()
    assert qb.track(run).digest == run.record["run_digest"]


def test_an_unknown_tracker_is_refused_before_the_export(study, tmp_path):
    with pytest.raises(qb.ConfigError, match=r"track.*wandb"):
        qb.export(study.project, tmp_path / "out", track="wand")
    assert not (tmp_path / "out").exists()
