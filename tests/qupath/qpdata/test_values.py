"""Values in data files: classes, metadata, measurements, stains, history, properties."""

import math
import pickle
import struct

import numpy as np
import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.qupath.qpdata.history import stain_numbers
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.schema import ClassSpec
from qupath_bridge.testing.parts import (
    COLL_SER,
    I32,
    MAP,
    QUPATH,
    STANDARD,
    STRING,
    UNMODIFIABLE,
    array,
    array_list,
    boolean,
    decode_object,
    decode_objects,
    hash_map,
    hierarchy,
    integer,
    item,
    make_file,
    metadata,
    null,
    numbers,
    numeric_list,
    path_class,
    plain,
    ref,
    text,
    written,
)
from tests.support.data_files import enum

# --- classes, metadata, measurements --------------------------------------------------------


def test_path_classes():
    shared = path_class("Tumor", color=integer(-9), key="tumor")
    derived = path_class(" Positive ", ref("tumor"), integer(-8))
    image = decode_objects(
        item(classified=shared),
        item(classified=ref("tumor")),
        item(classified=derived),
        item(classified=path_class(None)),
        item(classified=path_class("A", path_class(None))),
    )
    assert [(o.class_path, o.class_color) for o in image.objects] == [
        ("Tumor", -9),
        ("Tumor", -9),
        ("Tumor: Positive", -8),
        (None, None),
        ("A", None),
    ]


def test_path_class_that_is_its_own_parent_is_refused():
    with pytest.raises(ProjectError, match="a class with fewer parents"):
        decode_objects(item(classified=path_class("A", ref("a"), key="a")))


def test_object_metadata():
    assert dict(decode_object(item(meta=metadata(a="b", c=None))).metadata) == {"a": "b"}
    bad = {
        "as many texts as keys": written(schema.METADATA, integer(1), array(text("a")), array()),
        "keys and texts of its own": written(schema.METADATA, integer(1)),
        "a metadata key": written(schema.METADATA, integer(1), array(null), array(text("x"))),
        "a metadata text": written(schema.METADATA, integer(1), array(text("a")), array(array())),
    }
    for problem, meta in bad.items():
        with pytest.raises(ProjectError, match=problem):
            decode_objects(item(meta=meta))
    many = [text("x")] * (10_001)
    with pytest.raises(ProjectError, match="at most 10000"):
        decode_objects(item(meta=written(schema.METADATA, integer(1), array(*many), array(*many))))


def test_object_metadata_by_reference_is_refused():
    """QuPath never shares it; by reference it would cost far more than its bytes."""
    shared = written(schema.METADATA, integer(1), array(), array(), key="m")
    with pytest.raises(ProjectError, match="list of measurements"):
        decode_objects(item(meta=shared), item(meta=ref("m")))


def test_measurement_lists_of_all_versions():
    names = (text("a"), text("b"))
    closed = written(COLL_SER, I32(2), *names, raw=I32(1))  # QuPath >= 0.6
    older = plain(UNMODIFIABLE, b"", array_list(*names, key="inner"), ref("inner"))
    for stored in (array_list(*names), closed, older):
        for code in "fd":
            found = decode_object(item(measured=numeric_list(stored, [0.1, math.nan], code=code)))
            value = np.float32(0.1) if code == "f" else 0.1
            assert found.measurements["a"] == value
            assert math.isnan(found.measurements["b"])
    # room to grow behind the values, and equal names: the first counts
    grown = numeric_list(array_list(text("a"), text("b"), text("a")), [1, 2, 3, 9, 9])
    assert dict(decode_object(item(measured=grown)).measurements) == {"a": 1.0, "b": 2.0}
    assert dict(decode_object(item(measured=numeric_list(array_list(), []))).measurements) == {}


def test_measurement_lists_of_objects():
    double = ClassSpec(
        f"{QUPATH}measurements.DoubleMeasurement", 1, 2, (("value", "D"), ("name", STRING))
    )
    single = ClassSpec(
        f"{QUPATH}measurements.FloatMeasurement", 1, 2, (("value", "F"), ("name", STRING))
    )
    default = ClassSpec(
        f"{QUPATH}measurements.DefaultMeasurementList", 1, 2, (("list", "Ljava/util/ArrayList;"),)
    )
    stored = array_list(
        plain(double, struct.pack(">d", 0.1), text("a")),
        plain(single, struct.pack(">f", 0.5), text("b")),
        plain(double, struct.pack(">d", 7), text("a")),
    )
    assert dict(decode_object(item(measured=plain(default, b"", stored))).measurements) == {
        "a": 0.1,
        "b": 0.5,
    }
    assert dict(decode_object(item(measured=plain(default, b"", array_list()))).measurements) == {}
    for bad in (null, array_list(text("x")), array_list(plain(double, bytes(8), null))):
        with pytest.raises(ProjectError, match="expected"):
            decode_objects(item(measured=plain(default, b"", bad)))


def test_measurement_names_are_shared():
    names = array_list(text("a"), key="names")
    image = decode_objects(
        item(measured=numeric_list(names, [1.0])),
        *[item(measured=numeric_list(ref("names"), [float(i)])) for i in range(2, 5)],
    )
    assert [o.measurements["a"] for o in image.objects] == [1.0, 2.0, 3.0, 4.0]
    assert len({id(o.measurements.shared_names) for o in image.objects}) == 1


def test_measurement_lists_by_reference_are_shared():
    def shared(w):
        w.begin(schema.DOUBLE_LIST, ("key", "list"))
        w.raw(b"\0")
        w.null()
        array_list(text("a"))(w)
        numbers(schema.DOUBLES, "d", [1.0])(w)

    first, second = decode_objects(item(measured=shared), item(measured=ref("list"))).objects
    third = decode_objects(item(measured=shared), *[item(measured=ref("list"))] * 2).objects
    assert dict(first.measurements) == dict(second.measurements) == {"a": 1.0}
    assert third[1].measurements is third[2].measurements


def test_measurement_lists_that_are_malformed_are_refused():
    bad = {
        "2 values, as many as it has names": numeric_list(array_list(text("a"), text("b")), [1.0]),
        "a list of names": numeric_list(text("a"), [1.0]),
        "a measurement's name": numeric_list(array_list(null), [1.0]),
    }
    for problem, measured in bad.items():
        with pytest.raises(ProjectError, match=problem):
            decode_objects(item(measured=measured))

    def values_of_another(w):
        w.begin(schema.DOUBLE_LIST)
        w.raw(b"\0")
        w.null()
        array_list(text("a"))(w)
        assert w.reference("values")

    def first(w):
        w.begin(schema.DOUBLE_LIST)
        w.raw(b"\0")
        w.null()
        array_list(text("a"))(w)
        w._known["values"] = b"q" + I32(0x7E0000 + w._count + 1)
        numbers(schema.DOUBLES, "d", [1.0])(w)

    with pytest.raises(ProjectError, match="an array of its own"):
        decode_objects(item(measured=first), item(measured=values_of_another))


# --- stains, workflow, properties -----------------------------------------------------------


def properties(*contents):
    return decode_image_data(make_file(hierarchy(), hash_map(*contents), text("EOF"))).properties


def test_image_properties():
    double = ClassSpec("java.lang.Double", 1, 2, (("value", "D"),))
    singleton = ClassSpec(
        "java.util.Collections$SingletonMap",
        1,
        2,
        (("k", "Ljava/lang/Object;"), ("v", "Ljava/lang/Object;")),
    )
    one_list = ClassSpec(
        "java.util.Collections$SingletonList", 1, 2, (("element", "Ljava/lang/Object;"),)
    )
    view = ClassSpec("java.util.Collections$UnmodifiableMap", 1, 2, (("m", MAP),))
    pairs = written(COLL_SER, I32(2), text("k"), text("v"), raw=I32(3))
    nested = array_list(
        text("a"), integer(3), array_list(null), plain(singleton, b"", text("b"), null)
    )
    assert properties(
        text("text"),
        text("b"),
        text("null"),
        null,
        text("number"),
        plain(double, struct.pack(">d", 1.5)),
        text("list"),
        nested,
        text("map"),
        hash_map(integer(1), boolean(True)),
        text("enum"),
        enum("OTHER"),
        text("pairs"),
        pairs,
        text("view"),
        plain(view, b"", pairs),
        text("one"),
        plain(one_list, b"", null),
        text("array"),
        numbers(schema.BYTES, "b", [1, 2]),
        text("object"),
        metadata(a="b"),
        text("objects"),
        array_list(metadata(a="b"), array(text("x"), null)),
    ) == {
        "text": "b",
        "null": None,
        "number": 1.5,
        "list": ("a", 3, (None,), {"b": None}),
        "map": {"1": True},
        "enum": "OTHER",
        "pairs": {"k": "v"},
        "view": {"k": "v"},
        "one": (None,),
        "array": {"class": "array"},
        "object": {"class": f"{QUPATH}objects.MetadataMap"},
        "objects": ({"class": f"{QUPATH}objects.MetadataMap"}, ("x", None)),
    }


def test_image_properties_that_refer_to_objects_are_only_named():
    """As QuPath's connections between cells do: a reference may mean the whole hierarchy."""
    annotation = f"{QUPATH}objects.PathAnnotationObject"
    data = make_file(
        hierarchy(item(key="it")),
        hash_map(text("it"), ref("it"), text("all"), array_list(ref("it"))),
        text("EOF"),
    )
    assert decode_image_data(data).properties == {
        "it": {"class": annotation},
        "all": ({"class": annotation},),
    }


def test_image_properties_that_are_large_are_only_named():
    large = array_list(*[text("x" * 50_000 + str(i)) for i in range(4)])
    assert properties(text("large"), large) == {"large": {"class": "java.util.ArrayList"}}
    lists = array_list(*[null] * 30_000, key="list")
    contents = [text("0"), lists]
    for i in range(1, 10):
        contents += [text(str(i)), ref("list")]
    found = properties(*contents)
    assert sum(len(value) for value in found.values() if isinstance(value, list)) <= 100_000


def test_image_properties_with_a_list_in_itself():
    found = properties(text("a"), array_list(ref("me"), key="me"))
    for _ in range(20):
        if isinstance(found, dict):
            found = found.get("a", "named")
        else:
            found = found[0] if isinstance(found, list) else "named"
    assert found == "named"


def test_image_properties_that_are_malformed_are_refused():
    odd = written(schema.HASH_MAP, I32(16) + I32(-1), raw=bytes(8))
    with pytest.raises(ProjectError, match="-1 properties"):
        decode_image_data(make_file(hierarchy(), odd, text("EOF")))
    uneven = written(schema.HASH_MAP, I32(16) + I32(1), text("k"), raw=bytes(8))
    with pytest.raises(ProjectError, match="a value for each key"):
        properties(text("a"), uneven)


def workflow(*steps, count=None):
    number = I32(1) + I32(len(steps) if count is None else count)
    return written(schema.WORKFLOW, number, *steps)


def steps_of(*steps, **options):
    return decode_image_data(
        make_file(workflow(*steps, **options), hierarchy(), *STANDARD)
    ).workflow


STEPS = f"{QUPATH}plugins.workflow."
SCRIPT_STEP = ClassSpec(
    f"{STEPS}DefaultScriptableWorkflowStep",
    1,
    2,
    (("map", MAP), ("name", STRING), ("script", STRING)),
)


def test_workflow_steps_are_texts():
    plugin = ClassSpec(f"{STEPS}SimplePluginWorkflowStep", 1, 12)
    old = ClassSpec(
        f"{STEPS}DefaultPluginWorkflowStep",
        1,
        2,
        (("arg", STRING), ("pluginClass", "Ljava/lang/Class;")),
    )

    def java_class(w):
        w._out.append(0x76)
        w._desc(ClassSpec("lab.Plugin"))
        w._number()

    found = steps_of(
        plain(
            SCRIPT_STEP, b"", hash_map(text("a"), integer(1)), text("first"), text("run()"), key="s"
        ),
        written(plugin, I32(1), text("second"), text("lab.Plugin"), text("{}"), null, null),
        plain(old, b"", text("arg"), java_class),
        ref("s"),
    )
    first = {
        "class": "DefaultScriptableWorkflowStep",
        "map": {"a": 1},
        "name": "first",
        "script": "run()",
    }
    second = {
        "class": "SimplePluginWorkflowStep",
        "name": "second",
        "pluginClass": "lab.Plugin",
        "arg": "{}",
        "scriptBefore": None,
        "scriptAfter": None,
    }
    third = {"class": "DefaultPluginWorkflowStep", "arg": "arg", "pluginClass": "lab.Plugin"}
    assert found == (first, second, third, first)
    assert found[3] is not found[0]


def test_workflow_steps_that_are_malformed_or_large():
    large = plain(SCRIPT_STEP, b"", null, text("big"), text("x" * 200_000))
    assert steps_of(large) == ({"class": "DefaultScriptableWorkflowStep"},)
    for problem, steps, options in [
        ("-1 workflow steps", (), {"count": -1}),
        ("workflow steps", (), {"count": 0x7FFFFFFF}),
        ("expected a workflow step", (text("step"),), {}),
        ("expected a workflow step", (text("step"), lambda w: w.text("step")), {}),
    ]:
        with pytest.raises(ProjectError, match=problem):
            steps_of(*steps, **options)
    shared = plain(SCRIPT_STEP, b"", null, text("shared text"), null)
    with pytest.raises(ProjectError, match="expected a workflow step"):
        steps_of(shared, lambda w: w.text("shared text"))


def stains(*contents):
    item_5 = written(schema.STAINS, I32(1), *contents)
    return decode_image_data(make_file(item_5, hierarchy(), *STANDARD)).stains


def test_stains():
    stored = (
        '{"Name" : "H-DAB", "Stain 1" : "H", "Values 1" : "0,65 0,70 0,29", "Stain 3" : "R", '
        '"Values 3" : "x 0 1", "Background" : " 255 255 250"}'
    )
    found = stains(text(stored))
    assert found["text"] == stored
    assert found["stains"][0] == {"name": "H", "vector": (0.65, 0.7, 0.29)}
    assert math.isnan(found["stains"][1]["vector"][0])
    assert found["background"] == (255.0, 255.0, 250.0)
    for odd in ("no JSON", "[1]", "[" * 5000):
        assert stain_numbers(odd) == {"text": odd}
    for none in ((), (null,), (integer(1),)):
        with pytest.raises(ProjectError, match="stains as text"):
            stains(*none)


def test_java_collections_that_are_malformed_are_refused():
    """A set of numbers as names, a map as a list, too many wrappers, other lists of names."""
    odd_map = written(COLL_SER, I32(2), text("k"), text("v"), raw=I32(3))
    with pytest.raises(ProjectError, match="a list of names"):
        decode_objects(item(measured=numeric_list(odd_map, [1.0])))
    with pytest.raises(ProjectError, match="a list of names"):
        decode_objects(item(measured=numeric_list(numbers(schema.BYTES, "b", [1]), [1.0])))
    wrapped = array_list(text("a"))
    for _ in range(10):
        wrapped = plain(UNMODIFIABLE, b"", null, wrapped)
    with pytest.raises(ProjectError, match="a list of names"):
        decode_objects(item(measured=numeric_list(wrapped, [1.0])))


def test_java_maps_in_too_many_wrappers_are_only_named():
    view = ClassSpec("java.util.Collections$UnmodifiableMap", 1, 2, (("m", MAP),))
    inner = hash_map(text("k"), text("v"))
    for _ in range(10):
        inner = plain(view, b"", inner)
    assert properties(text("a"), inner) == {"a": {"class": view.name}}


def test_measurement_names_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("qupath_bridge.qupath.qpdata.values.MAX_NAMES", 3)
    items = [item(measured=numeric_list(array_list(text(f"n{i}")), [i])) for i in range(10)]
    assert [dict(o.measurements) for o in decode_objects(*items).objects] == [
        {f"n{i}": i} for i in range(10)
    ]


def test_image_properties_in_a_subclass_of_hash_map():
    linked = ClassSpec(
        "java.util.LinkedHashMap", 3801124242820219131, 2, (("accessOrder", "Z"),), schema.HASH_MAP
    )
    other = ClassSpec(linked.name, linked.suid, 2, (("x", "Ljava/lang/Object;"),), schema.HASH_MAP)

    def write(spec, *last):
        def part(w):
            w.begin(spec)
            w.raw(bytes(8))
            w.block(I32(16) + I32(1))
            w.text("k")
            w.text("v")
            w.end()
            for each in last:
                each(w)

        return part

    for part in (write(linked, lambda w: w.raw(b"\0")), write(other, null)):
        assert decode_image_data(make_file(hierarchy(), part, text("EOF"))).properties == {"k": "v"}


def test_measurements_as_a_mapping():
    found = decode_object(item(measured=numeric_list(array_list(text("a"), text("b")), [1.0, 2.0])))
    values = found.measurements
    assert (len(values), list(values), values == {"a": 1.0, "b": 2.0}) == (2, ["a", "b"], True)
    assert repr(values) == "{'a': 1.0, 'b': 2.0}"
    assert "c" not in values
    assert pickle.loads(pickle.dumps(values)) == values
