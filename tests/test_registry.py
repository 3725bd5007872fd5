"""The registry: every kind, in the order registered, built in, other packages."""

from importlib.metadata import EntryPoint

import pytest

from qupath_bridge import registry
from qupath_bridge.errors import MissingDependencyError, UsageError


@pytest.fixture(autouse=True)
def only_built_in(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_entry_points", lambda kind: ())


@pytest.fixture
def offer(monkeypatch):
    """A function that offers a part as an installed package would."""

    def offer(kind, name, value):
        point = EntryPoint(name, value, f"qupath_bridge.{kind}")
        monkeypatch.setattr(
            registry, "_entry_points", lambda wanted: (point,) if wanted == kind else ()
        )

    return offer


def test_built_in_parts_are_listed_by_kind():
    assert registry.names("reader") == ("openslide", "tiles", "pillow", "cucim")
    assert registry.names("encoder") == (
        "png", "jpeg", "tiff", "ome-tiff", "npy", "raw", "webp", "jxl"
    )  # fmt: skip
    assert registry.names("tissue") == (
        "saturation", "otsu", "double-pass", "unet", "signal", "qupath", "mask"
    )  # fmt: skip
    assert registry.names("stain") == ("macenko", "reinhard", "vahadane", "qupath")
    assert {part.origin for kind in registry.KINDS for part in registry.parts(kind)} == {"built in"}


@pytest.mark.parametrize("kind", ["reader", "encoder", "tissue", "quality", "stain"])
def test_built_in_parts_can_be_loaded(kind):
    for name in registry.names(kind):
        assert callable(registry.load(kind, name))


def test_registered_parts_come_first_and_replace_built_in_ones():
    registry.register("reader", "tiles", dict)
    registry.register("reader", "mine", list)
    assert registry.names("reader") == ("tiles", "mine", "openslide", "pillow", "cucim")
    assert registry.load("reader", "tiles") is dict
    assert [part.origin for part in registry.parts("reader")] == [
        "registered",
        "registered",
        "built in",
        "built in",
        "built in",
    ]
    assert "mine" not in registry.names("output")


def test_parts_of_other_packages_are_listed_last_and_loaded(offer):
    offer("tissue", "mine", "collections:OrderedDict.fromkeys")
    assert registry.names("tissue") == (
        "saturation",
        "otsu",
        "double-pass",
        "unet",
        "signal",
        "qupath",
        "mask",
        "mine",
    )
    registry.check("tissue", "mine")
    assert registry.load("tissue", "mine")("ab") == {"a": None, "b": None}
    part = registry.parts("tissue")[-1]
    assert (part.reference, part.origin) == (
        "collections:OrderedDict.fromkeys",
        "another package",
    )


def test_a_built_in_name_stays_built_in_whatever_packages_offer(offer):
    offer("reader", "tiles", "collections:OrderedDict")
    assert registry.load("reader", "tiles").__name__ == "TileReader"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:Reader", "No module named 'no_such_package'"),
        ("collections:NoSuchReader", "AttributeError: .*NoSuchReader"),
        ("package_with_a_fault:Reader", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_part_that_cannot_be_loaded_breaks_only_what_asks_for_it(
    offer, value, message, tmp_path, monkeypatch
):
    (tmp_path / "package_with_a_fault.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    offer("reader", "mine", value)
    assert registry.names("reader") == ("openslide", "tiles", "pillow", "cucim", "mine")
    with pytest.raises(MissingDependencyError, match=message) as caught:
        registry.load("reader", "mine")
    assert "another package" in caught.value.hint


def test_a_missing_dependency_of_a_built_in_part_is_named_with_the_command(monkeypatch):
    part = registry.Part("reader", "tiles", "no_such:Reader", "built in", "pip install it")
    monkeypatch.setattr(registry, "_BUILT_IN", {("reader", "tiles"): part})
    with pytest.raises(MissingDependencyError, match="Install it with: pip install it"):
        registry.load("reader", "tiles")


def test_unknown_names_and_kinds_are_refused_with_the_known():
    with pytest.raises(UsageError, match="No encoder is called 'bmp'. Known: png, jpeg, tiff"):
        registry.load("encoder", "bmp")
    with pytest.raises(UsageError, match="No stain is called 'x'. Known: macenko"):
        registry.check("stain", "x")
    with pytest.raises(UsageError, match="No model is called 'x'. Known: none"):
        registry.check("model", "x")
    for function in (registry.names, lambda kind: registry.register(kind, "a", dict)):
        with pytest.raises(UsageError, match="No kind of part is called 'colour'. Known: source"):
            function("colour")


@pytest.mark.parametrize("name", ["", "a:b"])
def test_register_refuses_names_that_options_cannot_hold(name):
    with pytest.raises(UsageError, match="name of a part"):
        registry.register("reader", name, dict)


def test_create_calls_the_factory_with_the_argument():
    registry.register("stain", "mine", lambda argument: ("made", argument))
    assert registry.create("stain", "mine") == ("made", None)
    assert registry.create("stain", "mine:a:b") == ("made", "a:b")
    assert registry.create("stain", "mine:") == ("made", "")
