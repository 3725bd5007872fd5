"""Options: three models, each option in one of them, every fault at once with its place."""

import pickle
import tomllib

import pytest

from qupath_bridge.cli.config import commented_config
from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings, options
from qupath_bridge.errors import ConfigError
from qupath_bridge.frozen import MAX_LINE
from qupath_bridge.model import Plane

MODELS = (Selection, ExportConfig, RunOptions)


def faults(values, model=ExportConfig):
    with pytest.raises(ConfigError) as caught:
        model.parse(values)
    return {fault.place: fault.problem for fault in caught.value.faults}


def test_every_field_is_one_option_in_one_group():
    fields = [name for model in MODELS for name in model.model_fields]
    grouped = [name for model in MODELS for names in model.groups.values() for name in names]
    assert len(set(fields)) == len(fields)
    assert sorted(grouped) == sorted(fields)
    assert sorted(option.name for option in options()) == sorted(fields)
    for option in options():
        assert option.description, option.name
        (model,) = [model for model in MODELS if option.name in model.model_fields]
        assert option.name in model.groups[option.group]
        assert option.default == getattr(model(), option.name)


def test_no_option_is_in_a_model_that_does_not_use_it():
    for model, name in ((ExportConfig, "entry"), (ExportConfig, "workers"), (RunOptions, "size")):
        assert faults({name: 1}, model)[name].startswith("no such option")


def test_options_know_the_names_that_they_accept():
    known = {option.name: option for option in options()}
    assert known["edge"].names() == ("drop", "pad")
    assert known["tissue"].names() == (
        "none",
        "saturation",
        "otsu",
        "double-pass",
        "unet",
        "signal",
        "qupath",
        "mask",
    )
    assert known["reader"].names() == ("auto", "openslide", "tiles", "pillow", "cucim")
    assert known["size"].names() == ()


@pytest.mark.parametrize("model", MODELS)
def test_a_call_raises_what_parse_raises(model):
    values = {"nonsense": 1}
    with pytest.raises(ConfigError) as called:
        model(**values)
    assert {fault.place: fault.problem for fault in called.value.faults} == faults(values, model)


def test_all_faults_come_at_once():
    found = faults({"size": 0, "rule": "most", "min_share": 1.5, "colour": "red"})
    assert set(found) == {"size", "rule", "min_share", "colour"}
    assert "not 'most'" in found["rule"]
    assert found["colour"] == "no such option"


def test_a_misspelt_option_is_recognised():
    assert "did you mean min_share" in faults({"min_shar": 1})["min_shar"]
    assert "did you mean min_share?" in faults({"labels": {"min_shar": 1}})["labels.min_shar"]


MEANT = {
    "jpg": ("format", "jpg", "did you mean jpeg?"),
    "JPEG": ("format", "JPEG", "did you mean jpeg?"),
    "center": ("rule", "center", "did you mean centre?"),
    "Centre": ("rule", "Centre", "did you mean centre?"),
    "padding": ("edge", "padding", "did you mean pad?"),
    "argmax": ("rule", "argmax", "did you mean majority?"),
    "webdataset": ("container", "webdataset", "did you mean tar?"),
    "huggingface": ("container", "huggingface", "did you mean parquet?"),
    "Otsu": ("tissue", "Otsu", "did you mean otsu?"),
    "share as overlap": ("overlap", "0.5", "for patches that overlap set stride"),
    "number as overlap": ("overlap", 0.5, "for patches that overlap set stride"),
    "20x": ("magnification", "20x", "did you mean 20?"),
    "comma": ("mpp", "0,5", "did you mean 0.5?"),
    "per cent": ("min_share", "50%", "did you mean 0.5?"),
    "pixels": ("size", "256px", "did you mean 256?"),
    "square": ("size", "256x256", "patches are squares; did you mean 256?"),
}


@pytest.mark.parametrize(("name", "value", "words"), MEANT.values(), ids=MEANT)
def test_a_near_value_is_recognised(name, value, words):
    assert words in faults({name: value})[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("container", "zip"), ("size", 0), ("size", "10.5"), ("size", "1x2"), ("rule", "sum of all")],
)
def test_nothing_is_suggested_for_what_is_far_from_all(name, value):
    assert "did you mean" not in faults({name: value})[name]


@pytest.mark.parametrize(
    ("values", "place", "words"),
    [
        ({"mpp": 0.5, "level_zero": True}, "mpp", "exclude each other"),
        ({"mpp": 0.5, "magnification": 20}, "mpp", "exclude each other"),
        ({"overlap": "priority"}, "overlap", "needs priority"),
        ({"unclassified": "as="}, "unclassified", "as=LABEL"),
        ({"unclassified": "maybe"}, "unclassified", "as=LABEL"),
        ({"background": " "}, "background", "name of a label"),
        ({"plane": ["-1,0"]}, "plane", "from 0,0"),
        ({"origin": "1"}, "origin", "two whole numbers"),
        ({"origin": "a,b"}, "origin", "two whole numbers"),
        ({"map": ["Tumor"]}, "map", "A=B"),
        ({"unclassified": {"label": "x"}}, "unclassified", "one key"),
        ({"exclude": [" "]}, "exclude", "empty name"),
        ({"sample": "grid"}, "sample", "needs a limit"),
        ({"seed": 1}, "seed", "needs sample = random"),
        ({"seed": 1, "sample": "grid", "max_per_slide": 9}, "seed", "needs sample = random"),
        ({"max_per_label": 9, "labels": False}, "max_per_label", "counts labels"),
    ],
)
def test_what_cannot_be_is_said(values, place, words):
    found = faults(values)
    assert any(key.startswith(place) for key in found), found
    assert words in " ".join(found.values())


def test_resume_and_update_exclude_each_other():
    found = faults({"resume": True, "update": True}, RunOptions)
    assert "exclude each other" in found["resume"]


def test_forms_of_values():
    config = ExportConfig.parse(
        {
            "origin": "-5,10",
            "plane": ["1,0", "0,2"],
            "priority": "B, A",
            "map": ["a=b=C"],
            "unclassified": {"as": "None"},
            "within": "any",
        }
    )
    assert config.origin == (-5, 10)
    assert config.grid_spec().planes == (Plane(1, 0), Plane(0, 2))
    assert config.priority == ("B", "A")
    assert config.map == {"a=b": "C"}
    rule = config.label_rule()
    assert (rule.unclassified, rule.unclassified_as) == ("as", "None")
    assert rule.within_any
    assert not rule.within
    assert ExportConfig.parse({"plane": "1,2"}).plane == ((1, 2),)
    assert ExportConfig.parse({"plane": [1, 2]}).plane == ((1, 2),)


def test_a_file_with_groups_and_values_on_top(tmp_path):
    path = tmp_path / "export.toml"
    path.write_text(
        """size = 512
        where = {patient = ["P1", "P2"]}
        [labels]
        min_share = 0.7
        labels = false
        [tissue]
        tissue = "otsu"
        [running]
        workers = 3
        """
    )
    settings = Settings.load(path, {"size": 128, "workers": None})
    config = settings.config
    assert (config.size, config.min_share, config.labels, config.tissue) == (
        128,
        0.7,
        False,
        "otsu",
    )
    assert settings.selection.where == {"patient": ("P1", "P2")}
    assert settings.options.workers is None
    assert Settings.load(path).options.workers == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size = ", "export.toml"),
        ("size = 'big'", "export.toml: size: "),
        ("[labels]\nsizes = 1", "export.toml: labels.sizes: "),
        ("[labels]\nmin_share = 3", "export.toml: labels.min_share: "),
        ("[running]\nresume = true\nupdate = true", "export.toml: running.resume: resume and"),
        ("[patches]\nplane = ['x']", "export.toml: patches.plane: should be two whole numbers"),
    ],
)
def test_a_broken_file_names_its_place(tmp_path, text, words):
    path = tmp_path / "export.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


MISTAKES = {
    "true for a number": ("size = true", "size: should not be true or false"),
    "true in a pair": ("origin = [true, 0]", "origin: should not be true or false"),
    "true in a plane": ("plane = [[0, false]]", "plane: should not be true or false"),
    "true for a limit": ("qc_min = {saturation = true}", "qc_min: should not be true or false"),
    "true in a group": ("[running]\nworkers = true", "running.workers: should not be true or"),
    "true for a text": ("layout = false", "layout: should not be true or false"),
    "twice": ("size = 1\n[patches]\nsize = 2", "patches.size: is given twice"),
    "a class twice": ('map = ["A=B", "A=C"]', "map: A is given twice: B and C"),
    "a place twice": ('slide_map = ["A=B", "A=C"]', "slide_map: A is given twice: B and C"),
    "another group": ("[patches]\noverlap = 'priority'", "patches.overlap: belongs in [labels]"),
    "lists in lists": (f"size = {'[' * 300}{']' * 300}", "size: nested too deeply"),
    "lists without end": (f"size = {'[' * 100_000}", "nested too deeply"),
    "tables in tables": (f"map{'.a' * 5000} = 1", "map: nested too deeply"),
    "digits": (f"size = {'9' * 6000}", "a number has too many digits"),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "export.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(path)
    (fault,) = caught.value.faults
    assert words in str(fault)
    assert len(str(fault)) < 300


def test_a_file_of_another_program_is_read(tmp_path):
    """Windows puts a mark before UTF-8 text; UTF-16 is not TOML."""
    path = tmp_path / "export.toml"
    path.write_bytes(b"\xef\xbb\xbfsize = 100\r\n[labels]\r\nrollup = true\r\n")
    settings = Settings.load(path)
    assert (settings.config.size, settings.config.rollup) == (100, True)
    path.write_bytes("size = 100".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        Settings.load(path)


def test_the_same_class_twice_for_the_same_label_is_fine():
    assert ExportConfig(map=["A=B", "A=B"]).map == {"A": "B"}


def test_a_long_wrong_value_is_cut():
    found = faults({"rule": "a" * 50_000})
    assert found["rule"].count("a") < 200 and "…" in found["rule"]


def test_faults_of_all_models_come_at_once(tmp_path):
    path = tmp_path / "export.toml"
    path.write_text("size = 0\nworkers = 0\nentries = 'x'\n[slides]\nwhere = 'x'\n")
    with pytest.raises(ConfigError) as caught:
        Settings.load(path)
    places = {fault.place.removeprefix(f"{path}: ") for fault in caught.value.faults}
    assert places == {"size", "workers", "entries", "slides.where"}


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        Settings.load(tmp_path / "none.toml")


def test_the_commented_file_holds_every_option_at_its_default():
    text = commented_config()
    for option in options():
        assert f"# {option.description}\n# {option.name} " in text
    # What is not set has no value that a file could hold.
    lines = [line for line in text.splitlines() if not line.endswith(" is not set")]
    names = {option.name for option in options()}
    lines = [line[2:] if line[2:].split(" = ")[0] in names else line for line in lines]
    values = tomllib.loads("\n".join(lines))
    assert sum(len(group) for group in values.values()) > 30
    assert Settings.parse(values) == Settings.parse({})


def test_settings_with_an_unknown_name_are_refused():
    with pytest.raises(ConfigError, match="sizes: no such option; did you mean size"):
        Settings.parse({}).replace(sizes=None)


def test_as_json_can_be_read_back():
    config = ExportConfig(map={"A: *": "B"}, plane=["1,0"], priority="A,B", within="any", mpp=0.5)
    assert ExportConfig.parse(config.as_json()) == config
    choice = Selection(where=["a=b", "a=c"], entry="1")
    assert Selection.parse(choice.as_json()) == choice


VALUES = [
    ExportConfig(),
    ExportConfig(size=64, map={f"{'long ' * 30}{n}": "B" for n in range(20)}),
    Selection(entry=["a\nb"] * 200),
    RunOptions(search=["/x" * 300], workers=2),
    Settings(Selection(entry="x" * 300), ExportConfig(), RunOptions(workers=2)),
    *options(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_options_are_values(value):
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value
    assert hash(copy) == hash(value)
    assert len(repr(value)) <= MAX_LINE
    assert "\n" not in repr(value)


def test_repr_shows_what_is_not_the_default():
    assert repr(ExportConfig(size=64, mpp=0.5)) == "ExportConfig(size=64, mpp=0.5)"
    assert repr(Selection()) == "Selection()"


def test_values_do_not_change():
    config = ExportConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.size = 3
    with pytest.raises(TypeError):
        config.map["A"] = "B"
    assert config.replace(size=3).size == 3
    assert config.size == 256
