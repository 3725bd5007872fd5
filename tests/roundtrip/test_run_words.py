"""How texts for people name a run."""

import time

import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.roundtrip.run_words import local_time, run_words, settings_words


@pytest.fixture
def in_kolkata(monkeypatch):
    if not hasattr(time, "tzset"):
        pytest.skip("this system has no way to set the time zone of a process")
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # five and a half hours before UTC, all the year
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_run_is_named_by_date_and_settings(in_kolkata):
    record = {
        "started": "2026-05-04T20:45:10.123456+00:00",
        "config": ExportConfig(size=128, mpp=0.5, exclude=["Keratin", "Hair"]).as_json(),
    }
    assert run_words("20260504-204510-abc", record) == (
        "the run of 2026-05-05 02:15 (128 px, 0.5 µm/px, exclude Keratin Hair)"
    )


def test_a_run_without_a_record_keeps_its_id():
    assert run_words("20260504-204510-abc", {}) == "the run 20260504-204510-abc"


def test_a_time_that_is_none_stays():
    assert local_time("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "256 px, full resolution"),
        ({"size": 64, "magnification": 20}, "64 px, magnification 20.0"),
        ({"min_share": 0.25}, "256 px, full resolution, min share 0.25"),
        ({"map": {"A": "B"}}, "256 px, full resolution, map A=B"),
    ],
)  # fmt: skip
def test_only_what_was_chosen_is_said(options, words):
    assert settings_words(ExportConfig(**options).as_json()) == words
