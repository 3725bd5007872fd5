"""A function that asks for something, as QuPath's scripts do."""

from pathlib import Path

import pytest

from qupath_bridge.api.requests import carry_out


@pytest.fixture
def ask(study):
    """``ask("export", options={…})`` about the study; the events are in ``ask.events``."""

    def ask(command, /, **fields):
        ask.events = []
        request = {"protocol": 1, "command": command, "project": str(study.project), **fields}
        return carry_out(request, ask.events.append)

    return ask


@pytest.fixture
def square(tmp_path):
    """A function that writes a GeoJSON file with one square annotation, as QuPath writes it."""

    def square(x, y, side, name="Tumor", file="live ä,组织.geojson"):
        import json

        ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        feature = {
            "type": "Feature",
            "id": "11111111-2222-4333-8444-555555555555",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": [200, 0, 0]},
            },
        }
        path = Path(tmp_path, file)
        collection = {"type": "FeatureCollection", "features": [feature]}
        path.write_text(json.dumps(collection), encoding="utf-8")
        return str(path)

    return square
