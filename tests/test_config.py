import tomllib

import pytest

from qupath_bridge.cli.config import commented_config
from qupath_bridge.cli.options import OPTIONS
from qupath_bridge.config import GROUPS, ExportConfig
from qupath_bridge.errors import ConfigError
from qupath_bridge.model import Plane


def faults(values):
    with pytest.raises(ConfigError) as caught:
        ExportConfig.parse(values)
    return {fault.place: fault.problem for fault in caught.value.faults}


def test_every_field_is_in_one_group_and_has_a_flag():
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(ExportConfig.model_fields)
    flagged = [option.name for options in OPTIONS.values() for option in options]
    assert sorted(flagged) == sorted(ExportConfig.model_fields)


def test_all_faults_come_at_once():
    found = faults({"size": 0, "rule": "most", "min_share": 1.5, "colour": "red"})
    assert set(found) == {"size", "rule", "min_share", "colour"}
    assert "not 'most'" in found["rule"]
    assert found["colour"] == "no such option"


def test_a_misspelt_option_is_recognised():
    assert "did you mean min_share?" in faults({"min_shar": 1})["min_shar"]
    assert "did you mean min_share?" in faults({"labels": {"min_shar": 1}})["labels.min_shar"]


@pytest.mark.parametrize(
    ("values", "place", "words"),
    [
        ({"mpp": 0.5, "level_zero": True}, "mpp", "exclude each other"),
        ({"mpp": 0.5, "magnification": 20}, "mpp", "exclude each other"),
        ({"resume": True, "update": True}, "resume", "exclude each other"),
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
    ],
)
def test_what_cannot_be_is_said(values, place, words):
    found = faults(values)
    assert any(key.startswith(place) for key in found), found
    assert words in " ".join(found.values())


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


def test_a_file_with_groups_and_flags_on_top(tmp_path):
    path = tmp_path / "export.toml"
    path.write_text(
        'size = 512\n[labels]\nmin_share = 0.7\nlabels = false\n[tissue]\ntissue = "otsu"\n'
    )
    config = ExportConfig.load(path, {"size": 128})
    assert (config.size, config.min_share, config.labels, config.tissue) == (
        128,
        0.7,
        False,
        "otsu",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [("size = ", "export.toml"), ("size = 'big'", "size"), ("[labels]\nsizes = 1", "labels.sizes")],
)
def test_a_broken_file_names_its_place(tmp_path, text, words):
    path = tmp_path / "export.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        ExportConfig.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        ExportConfig.load(tmp_path / "none.toml")


def test_the_commented_file_holds_the_defaults():
    lines = commented_config().splitlines()
    settings = [line[2:] for line in lines if line.startswith("# ") and " = " in line]
    values = tomllib.loads(
        "\n".join(s for s in settings if s.split(" = ")[0] in ExportConfig.model_fields)
    )
    assert len(values) > 30
    assert ExportConfig.parse(values) == ExportConfig()


def test_the_digest_knows_what_matters():
    config = ExportConfig()
    assert config.replace(workers=7, search=["/x"], engine="embedded").digest_values() == (
        config.digest_values()
    )
    assert config.replace(min_share=0.6).digest_values() != config.digest_values()


def test_values_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        ExportConfig().size = 3
