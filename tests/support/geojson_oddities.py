"""GeoJSON as other programs write it: what QuPath reads, converts, ignores and refuses."""

import json

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
LINE = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
RING = SQUARE["coordinates"]


def feature(properties=None, **members):
    return {"type": "Feature", "geometry": SQUARE, "properties": properties or {}, **members}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def together(*geometries, **members):
    return {"type": "GeometryCollection", "geometries": list(geometries), **members}


FILES = {
    "empty object": {},
    "null": None,
    "empty array": [],
    "tool": {"tile_size": 256, "images": [1, 2]},
    "name null": {"name": None},
    "array mixed": [feature(), 5, {"a": 1}, feature()],
    "array nested": [[feature()], collection(feature())],
    "no features": {"type": "FeatureCollection"},
    "features null": {"type": "FeatureCollection", "features": None},
    "no feature in it": collection(),
    "empty feature": collection({}, feature()),
    "untyped feature": collection({"geometry": SQUARE, "properties": {}}),
    "null feature": collection(None, feature()),
    "topology": {"type": "Topology"},
    "type a number": {"type": 5},
    "feature alone": feature(),
    "feature lower": {**feature(), "type": "feature"},
    "collection alone": together(SQUARE, LINE),
}
COLORS = {
    "null": None, "floats": [255.0, 0.0, 0.0], "fraction": [1.0, 0.5, 0], "hex": "#ff0000",
    "two": [1, 2], "256": [1, 2, 256], "below": [1, 2, -1], "packed": -65536,
    "packed float": -65536.0, "large": 4291297280, "empty": [], "word": "red",
    "texts": ["255", "0", "0"], "object": {}, "true": True, "nulls": [None, 0, 0],
    "packed text": "-65536",
}  # fmt: skip
MEASUREMENTS = {
    "null": None, "number": 5, "word": "a", "list of numbers": [5], "px": {"a": "5 px"},
    "text": {"a": "5.5"}, "spaces": {"a": " 5 "}, "nan": {"a": "nan"}, "NaN": {"a": "NaN"},
    "inf": {"a": "inf"}, "-inf": {"a": "-inf"}, "Infinity": {"a": "Infinity"},
    "infinity": {"a": "infinity"}, "-Infinity": {"a": "-Infinity"}, "5d": {"a": "5d"},
    "underscore": {"a": "5_0"}, "true": {"a": True, "b": 1}, "none": {"a": None, "b": 1},
    "list": {"a": [1], "b": 1}, "object": {"a": {}, "b": 1}, "empty text": {"a": ""},
    "listed null": [{"name": "a", "value": None}], "listed NaN": [{"name": "a", "value": "NaN"}],
    "listed text": [{"name": "a", "value": "5"}], "listed nameless": [{"value": 5}],
    "listed px": [{"name": "a", "value": "5 px"}], "empty list": [],
}  # fmt: skip
METADATA = {
    "null": None, "number": 5, "word": "a", "list": [1],
    "mixed": {"a": 1, "b": None, "c": True, "d": [1], "e": 1.5, "f": {}},
}  # fmt: skip
PLANES = {
    "null": None, "word": "z1", "below": {"z": -1}, "channel below": {"c": -2}, "float": {"z": 1.0},
    "fraction": {"z": 1.7}, "text": {"z": "1"}, "letter": {"z": "a"}, "z null": {"z": None},
    "unknown": {"z": 1, "q": 5}, "empty": {}, "large": {"z": 1 << 40}, "true": {"z": True},
    "list": [1], "number": 5, "text of a float": {"z": "1.0"},
}  # fmt: skip
NAMES = {
    "null": None, "number": 5, "float": 5.5, "true": True, "list": ["a"], "two": ["a", "b"],
    "object": {}, "empty": "",
}  # fmt: skip
FLAGS = {"text": "true", "TEXT": "TRUE", "no": "no", "one": 1, "null": None}
RINGS = {
    "not closed": [[[0, 0], [10, 0], [10, 10], [0, 10]]],
    "three": [[[0, 0], [5, 5], [0, 0]]], "two": [[[0, 0], [1, 1]]], "one": [[[0, 0]]],
    "empty": [[]], "none": [], "texts": [[["0", "0"], ["10", "0"], ["10", "10"], ["0", "0"]]],
    "null": [[[0, 0], [1, None]]], "z": [[[0, 0, 1], [10, 0, 1], [10, 10, 1], [0, 0, 1]]],
    "some z": [[[0, 0, 1], [10, 0], [10, 10, 1], [0, 0, 1]]],
    "z null": [[[0, 0, None], [10, 0, None], [10, 10, None], [0, 0, None]]],
    "tiny": [[[0, 0], [0.001, 0], [0.001, 0.001], [0, 0]]],
    "bow-tie": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]],
    "one number": [[[0], [1], [2], [0]]], "empty hole": [RING[0], []],
    "flat": [[[0, 0], [10, 0], [5, 0], [0, 0]]],
}  # fmt: skip
SHAPES = {
    "collection": together(SQUARE, LINE),
    "collection with coordinates": together(SQUARE, LINE, coordinates=[]),
    "collection of lines": together(LINE, {"type": "Point", "coordinates": [1, 2]}, coordinates=[]),
    "collection of many": together(
        {"type": "MultiPolygon", "coordinates": [RING, [[[20, 0], [30, 0], [30, 9], [20, 0]]]]},
        together(LINE, {**SQUARE, "coordinates": [[[50, 0], [60, 0], [60, 9], [50, 0]]]},
                 coordinates=[]),
        coordinates=[],
    ),
    "line of one": {"type": "LineString", "coordinates": [[0, 0]]},
    "parts overlap": {"type": "MultiPolygon", "coordinates": [RING, [
        [[5, 5], [15, 5], [15, 15], [5, 5]]]]},
    "empty point": {"type": "Point", "coordinates": []},
    "Square": {"type": "Square", "coordinates": []},
    "polygon": {"type": "polygon", "coordinates": RING},
    "null": None,
    "nothing": {},
}  # fmt: skip


def cases():
    """Return the bytes of each file by its name; every class of its own, so that QuPath, which
    remembers the first colour of a class, says what it reads in each."""
    single = {f"name {k}": feature({"name": v}) for k, v in NAMES.items()}
    for key, value in COLORS.items():
        single[f"color {key}"] = feature({"color": value})
        for member in ("color", "colorRGB"):
            named = {"name": f"{member} {key}", member: value}
            single[f"class {member} {key}"] = feature({"classification": named})
    for key, value in {
        "no color": {"name": "T"}, "no name": {"color": [1, 2, 3]}, "null": None, "number": 5,
        "list": ["T"],
    }.items():  # fmt: skip
        single[f"class {key}"] = feature({"classification": value})
    single |= {f"measurements {k}": feature({"measurements": v}) for k, v in MEASUREMENTS.items()}
    single |= {f"metadata {k}": feature({"metadata": v}) for k, v in METADATA.items()}
    single |= {f"plane {k}": feature(geometry={**SQUARE, "plane": v}) for k, v in PLANES.items()}
    for key, value in FLAGS.items():
        single[f"locked {key}"] = feature({"isLocked": value})
        single[f"missing {key}"] = feature({"objectType": "tmaCore", "isMissing": value})
        single[f"ellipse {key}"] = feature(geometry={**SQUARE, "isEllipse": value})
    single |= {
        f"ring {k}": feature(geometry={**SQUARE, "coordinates": v}) for k, v in RINGS.items()
    }
    single |= {f"shape {k}": feature(geometry=v) for k, v in SHAPES.items()}
    single |= {f"type {v}": feature({"objectType": v}) for v in (None, 5, "xx")}
    single |= {f"id {v}": feature(id=v) for v in (None, 5, "1-2-3-4-5")}
    single |= {f"properties {v}": {**feature(), "properties": v} for v in (None, [])}
    single |= {
        f"children {k}": feature({"childObjects": v})
        for k, v in {"null": None, "number": [5], "untyped": [{"geometry": SQUARE}], "empty": [{}]}
        .items()
    }  # fmt: skip
    texts = {name: json.dumps(value) for name, value in FILES.items()}
    texts |= {name: json.dumps(collection(value)) for name, value in single.items()}
    texts["nothing"] = ""
    texts["mark"] = "\ufeff" + json.dumps(collection(feature()))
    texts["lines"] = json.dumps(feature()) + "\n" + json.dumps(feature())
    texts["key twice"] = json.dumps(collection(feature({"name": "A"}))).replace(
        '"name": "A"', '"name": "a", "name": "b"'
    )
    files = {name: text.encode() for name, text in texts.items()}
    files["latin 1"] = json.dumps(collection(feature({"name": "A"}))).encode().replace(
        b'"A"', b'"\xe9"'
    )  # fmt: skip
    return files
