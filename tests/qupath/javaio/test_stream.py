"""The grammar of Java streams: hand-made bytes, the specification's own example, and samples."""

import struct
from pathlib import Path

import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath.javaio import grammar as javagrammar
from qupath_bridge.qupath.javaio import stream as javastream
from qupath_bridge.qupath.javaio.descriptors import decode_text, encode_text
from qupath_bridge.qupath.javaio.stream import JavaArray, JavaObject, JavaStream, Ref

SAMPLES = sorted(
    (Path(__file__).parents[2] / "data" / "qupath-samples").glob("*/project/data/*/data.qpdata")
)
MAGIC = b"\xac\xed\x00\x05"
NULL, END = b"p", b"x"


def utf(text):
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def string(text):
    return b"t" + utf(text)


def ref(handle):
    return b"q" + struct.pack(">i", 0x7E0000 + handle)


def desc(name, flags=2, fields=(), parent=NULL, annotation=b""):
    """A class descriptor; fields are (code, name) or (code, name, signature bytes)."""
    out = b"r" + utf(name) + bytes(8) + bytes([flags]) + struct.pack(">H", len(fields))
    for code, field, *signature in fields:
        out += code.encode() + utf(field) + b"".join(signature)
    return out + annotation + END + parent


def stream(*parts):
    return JavaStream(MAGIC + b"".join(parts), "file.qpdata")


def read(*parts):
    return stream(*parts).read()


def both(*parts):
    """Read one content, and check that parsing past it goes the same way."""
    reader, skipper = stream(*parts), stream(*parts)
    node = reader.read()
    skipper.skip()
    assert (reader.pos, reader.handles) == (skipper.pos, skipper.handles)
    return node


# --- what the grammar allows ----------------------------------------------------------------


def test_java_stream_of_the_java_specifications_example():
    """Java Object Serialization Specification, 6.4.2: two linked lists, the second one shared."""
    example = JavaStream(
        bytes.fromhex(
            "ac ed 00 05 73 72 00 04 4c 69 73 74 69 c8 8a 15 40 16 ae 68 02 00 02 49 00 05 76 61 "
            "6c 75 65 4c 00 04 6e 65 78 74 74 00 06 4c 4c 69 73 74 3b 78 70 00 00 00 11 73 71 00 "
            "7e 00 00 00 00 00 13 70 71 00 7e 00 03"
        )
    )
    first = example.read()
    assert first.desc.name == "List"
    assert first.fields["value"] == 17
    assert first.fields["next"].fields == {"value": 19, "next": None}
    second = example.read()
    assert second == Ref(3)
    assert example.resolve(second).fields == {"value": 19, "next": None}
    assert example.at_end


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: f"{p.parts[-5]}-{p.parent.name}")
def test_java_stream_read_and_skip_agree(path):
    data = path.read_bytes()
    reader, skipper = JavaStream(data, path), JavaStream(data, path)
    for each in (reader, skipper):
        each.block(data[5])
    while not reader.at_end:
        reader.read()
        skipper.skip()
        assert (reader.pos, reader.handles) == (skipper.pos, skipper.handles)
    for handle in range(len(reader.handles)):
        if reader.desc_of(handle) is None:
            node = skipper.resolve(Ref(handle))
            assert node is skipper.resolve(Ref(handle))
            if isinstance(node, JavaObject | JavaArray):
                assert node.offset == reader.handles[handle]


def test_java_stream_leaves():
    assert both(NULL) is None
    assert both(string("é")) == "é"
    assert both(b"|" + struct.pack(">q", 3) + b"abc") == "abc"
    enum = both(b"~" + desc("E", 0x12) + string("A"))
    assert (enum.desc.name, enum.constant) == ("E", "A")
    java_class = both(b"v" + desc("C"))
    assert (java_class.desc.name, java_class.constant) == ("java.lang.Class", "C")


def test_java_enum_constant_may_be_a_reference():
    items = stream(string("A"), b"~" + desc("E", 0x12) + ref(0))
    items.read()
    assert items.read().constant == "A"


@pytest.mark.parametrize(
    ("code", "size"),
    [("B", 1), ("C", 2), ("D", 8), ("F", 4), ("I", 4), ("J", 8), ("S", 2), ("Z", 1)],
)
def test_java_arrays_of_numbers_are_not_copied(code, size):
    array = both(b"u" + desc(f"[{code}") + struct.pack(">i", 3) + bytes(3 * size))
    assert (array.count, array.items) == (3, [])
    assert array.start == 4 + 1 + len(desc(f"[{code}")) + 4


def test_java_arrays_of_objects():
    outer = b"u" + desc("[[F") + struct.pack(">i", 2)
    inner = b"u" + desc("[F") + struct.pack(">i", 1) + bytes(4)
    array = both(outer, inner, NULL)
    assert [item and item.count for item in array.items] == [1, None]
    assert both(b"u" + desc("[Ljava.lang.Object;") + struct.pack(">i", 0)).items == []


def test_java_fields_are_in_the_order_of_the_file():
    """Numbers between contents, all types, super class first."""
    signature = string("Ljava/lang/String;")
    parent = desc("Parent", 2, [("I", "a"), ("L", "b", signature), ("D", "c")])
    numbers = [("Z", "d"), ("B", "e"), ("S", "f"), ("C", "g")]
    child = desc("Child", 2, [*numbers, ("[", "h", string("[I"))], parent)
    data = struct.pack(">i", 7) + string("text") + struct.pack(">d", 0.5)
    data += struct.pack(">?bhH", True, -1, -2, 65535) + NULL
    node = both(b"s" + child + data)
    assert node.fields == {"a": 7, "b": "text", "c": 0.5, "d": True, "e": -1, "f": -2, "g": 65535,
                           "h": None}  # fmt: skip
    assert node.desc.lineage == ("Child", "Parent")


def test_java_object_contents_besides_fields():
    long_block = b"z" + struct.pack(">i", 300) + bytes(300)
    node = both(
        b"s" + desc("A", 3, [("I", "n")]), bytes(4), b"w\x02ab", string("x"), long_block, END
    )
    assert node.data() == b"ab" + bytes(300)
    assert node.nodes() == ["x"]
    own = both(b"s" + desc("B", 0x0C, parent=desc("C", 0x0C)), b"w\x01c", NULL, END)
    assert own.contents == [b"c", None]


def test_java_map_of_a_subclass():
    """LinkedHashMap: the pairs are in HashMap's annotation, before its own field."""
    hash_map = desc("java.util.HashMap", 3, [("F", "loadFactor"), ("I", "threshold")])
    linked = desc("java.util.LinkedHashMap", 2, [("Z", "accessOrder")], hash_map)
    pairs = b"w\x08" + struct.pack(">ii", 16, 1) + string("key") + NULL + END
    node = both(b"s" + linked, bytes(8), pairs, b"\x01")
    assert node.nodes() == ["key", None]
    assert node.fields["accessOrder"] is True


def test_java_reference_to_itself_stays_a_reference():
    node = both(b"s" + desc("A", 2, [("L", "me", string("LA;"))]) + ref(2))
    assert node.fields["me"] == Ref(2)


def test_java_proxy_classes_are_read():
    handler = desc("java.lang.reflect.Proxy", 2, [("L", "h", string("LH;"))])
    proxy = b"}" + struct.pack(">i", 2) + utf("One") + utf("Two") + b"w\x01a" + END + handler
    assert both(b"s" + proxy + NULL).fields == {"h": None}


def test_java_enum_constants_are_named_by_texts():
    items = stream(b"u" + desc("[B") + bytes(4), b"~" + desc("E", 0x12) + ref(1))
    items.read()
    with pytest.raises(ProjectError, match="a reference at byte 50 .expected one to a constant"):
        items.read()


def test_class_annotations_of_leaves():
    extra = string("file:/codebase") + ref(1) + NULL + b"w\x01a" + b"z" + struct.pack(">i", 0)
    assert both(b"s" + desc("A", annotation=extra)).desc.name == "A"


def test_block_data_is_read_across_blocks():
    data = stream(b"w\x02ab", b"w\x00", b"z" + struct.pack(">i", 3) + b"cde", NULL)
    assert data.block(1) == b"a"
    with pytest.raises(ProjectError, match="block data in place of an object"):
        data.read()
    assert data.block(4) == b"bcde"
    assert data.block(0) == b""
    assert data.read() is None


def test_end_object_skips_the_remaining_annotation():
    data = stream(b"w\x03abc", string("x"), b"w\x01d", END, NULL)
    assert data.block(1) == b"a"
    data.end_object()
    assert data.read() is None
    assert len(data.handles) == 1


def test_open_object_and_read_rest():
    data = stream(
        b"s" + desc("A", 2, [("I", "n")]) + struct.pack(">i", 5), b"s" + ref(0) + bytes(4)
    )
    handle, java_class = data.open_object()
    assert (handle, java_class.name) == (1, "A")
    assert data.read_rest(java_class, 4).fields == {"n": 5}
    handle, java_class = data.open_object()
    data.skip_remaining(java_class)
    assert (handle, data.at_end) == (2, True)
    assert data.class_of(Ref(1)) == "A"


def test_class_of_a_java_reference():
    data = stream(string("text"), b"u" + desc("[B") + bytes(4))
    data.skip()
    data.skip()
    assert [data.class_of(Ref(handle)) for handle in (0, 2)] == [None, "[B"]


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", b"plain"),
        ("\0", b"\xc0\x80"),
        ("é中", "é中".encode()),
        ("😀", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("a\0😀", b"a\xc0\x80\xed\xa0\xbd\xed\xb8\x80"),
        ("", b""),
    ],
)
def test_modified_utf8(text, encoded):
    assert encode_text(text) == encoded
    assert decode_text(encoded) == text


def test_modified_utf8_half_surrogate_becomes_a_replacement_character():
    assert decode_text(b"a\xed\xa0\xbdb") == "a\ufffdb"
    assert decode_text(encode_text("\ud83d")) == "\ufffd"


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", "😀".encode(), b"\xe4\xb8"])
def test_modified_utf8_refuses_other_bytes(raw):
    with pytest.raises(ValueError, match="utf-8|UTF-8"):
        decode_text(raw)


# --- what it does not allow -----------------------------------------------------------------

BROKEN = {
    "no magic": (b"\xac\xed\x00\x04", "not a Java object stream", 0),
    "nothing": (b"", "not a Java object stream", 0),
    "end": (MAGIC, "ends too early", 4),
    "tag": (MAGIC + b"\x60", "tag 60", 4),
    "end mark": (MAGIC + END, "tag 78", 4),
    "block": (MAGIC + b"w\x00", "tag 77", 4),
    "reset": (MAGIC + b"y", "reset", 4),
    "exception": (MAGIC + b"{", "failed while it wrote", 4),
    "reference to nothing": (MAGIC + ref(0), "unknown content", 4),
    "negative reference": (MAGIC + b"q\x00\x00\x00\x00", "unknown content", 4),
    "short reference": (MAGIC + b"q\x00\x7e", "ends too early", 7),
    "short text": (MAGIC + b"t\x00\x05abc", "too early|5 bytes", None),
    "short length": (MAGIC + b"t\x00", "ends too early", None),
    "negative text": (MAGIC + b"|" + struct.pack(">q", -1), "text of -1 bytes", 4),
    "huge text": (MAGIC + b"|" + struct.pack(">q", 1 << 62), "bytes", 4),
    "object without class": (MAGIC + b"s" + NULL, "class none", 4),
    "class of a text": (MAGIC + b"s" + string("x"), "class descriptor", 5),
    "object of an array class": (MAGIC + b"s" + desc("[B"), "class .B", 4),
    "unknown length": (MAGIC + b"s" + desc("E", 4), "class E", 4),
    "not serializable": (MAGIC + b"s" + desc("E", 0), "class E", 4),
    "array without class": (MAGIC + b"u" + NULL + bytes(4), "array class", 4),
    "array of an object class": (MAGIC + b"u" + desc("A") + bytes(4), "array class", 4),
    "array without a length": (MAGIC + b"u" + desc("[B") + bytes(3), "too early", None),
    "negative array": (MAGIC + b"u" + desc("[B") + b"\xff" * 4, "array of -1", 4),
    "huge array": (MAGIC + b"u" + desc("[D") + b"\x7f" + b"\xff" * 3, "2147483647 values", 4),
    "huge objects": (
        MAGIC + b"u" + desc("[LA;") + b"\x7f" + b"\xff" * 3 + NULL * 9, "2147483647 values", 4
    ),
    "field type": (MAGIC + b"s" + desc("A", 2, [("X", "a")]), "field type 'X'", None),
    "signature": (MAGIC + b"s" + desc("A", 2, [("L", "a", NULL)]), "tag 70", None),
    "too many fields": (
        MAGIC + b"sr" + utf("A") + bytes(8) + b"\x02\xff\xff", "65535 fields", None
    ),
    "object in a class annotation": (
        MAGIC + b"s" + desc("A", annotation=b"s" + desc("B")), "tag 73", None
    ),
    "proxy of many": (MAGIC + b"s}" + b"\x7f\xff\xff\xff", "interfaces", None),
    "its own super class": (MAGIC + b"s" + desc("A", parent=ref(0)), "class descriptor", None),
    "super class is a text": (
        MAGIC + string("x") + b"s" + desc("A", parent=ref(0)), "class descriptor", None
    ),
    "class name": (MAGIC + b"sr\x00\x01\xff" + bytes(11), "cannot be decoded", 8),
    "enum without class": (MAGIC + b"~" + NULL + string("A"), "without a class", 4),
    "enum with a number": (MAGIC + b"~" + desc("E", 0x12) + NULL, "tag 70", None),
    "negative block": (
        MAGIC + b"s" + desc("A", 3) + b"z\xff\xff\xff\xff", "block of -1 bytes", None
    ),
    "huge block": (MAGIC + b"s" + desc("A", 3) + b"w\xff", "255 bytes", None),
    "open annotation": (MAGIC + b"s" + desc("A", 3), "ends too early", None),
    "short numbers": (MAGIC + b"s" + desc("A", 2, [("J", "n")]) + bytes(7), "too early", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("way", ["read", "skip"])
def test_broken_java_streams_are_refused(case, way):
    data, problem, offset = BROKEN[case]
    with pytest.raises(ProjectError, match=problem) as caught:
        broken = JavaStream(data, "file.qpdata")
        while not broken.at_end or data == MAGIC:
            if way == "read":
                broken.read()
            else:
                broken.skip()
    assert str(caught.value).startswith("file.qpdata: ")
    assert 0 <= caught.value.offset <= len(data)
    if way == "read" and offset is not None:
        assert caught.value.offset == offset


@pytest.mark.parametrize("path", SAMPLES[::5], ids=lambda p: f"{p.parts[-5]}-{p.parent.name}")
def test_java_stream_cut_off_anywhere_is_refused(path):
    """Both ways say so."""
    data = path.read_bytes()[:2500]
    for end in range(4, len(data), 3):
        for way in (JavaStream.read, JavaStream.skip):
            cut = JavaStream(data[:end])
            with pytest.raises(ProjectError):
                cut.block(data[5])
                while True:
                    way(cut)


def test_java_stream_nesting_is_limited():
    nested = b"s" + desc("A", 2, [("L", "next", string("LA;"))]) + (b"s" + ref(0)) * 100_000
    with pytest.raises(ProjectError, match="too many or too deep"):
        read(nested + NULL)
    deep = stream(nested + NULL)
    deep.skip()
    assert deep.at_end
    wide = [("L", f"f{i}", string("LA;") if i == 0 else ref(1)) for i in range(100)]
    with pytest.raises(ProjectError, match="too deep"):
        stream(b"s" + desc("A", 2, wide) + (b"s" + ref(0)) * 100_000).skip()


def test_java_stream_number_of_nodes_is_limited():
    count = javastream.MAX_NODES + 10
    array = b"u" + desc("[LA;") + struct.pack(">i", count) + NULL * count
    with pytest.raises(ProjectError, match="too many or too deep"):
        read(array)
    stream(array).skip()


def test_java_stream_number_of_classes_and_fields_is_limited():
    classes = b"".join(b"v" + desc("A") for _ in range(javagrammar.MAX_CLASSES + 1))
    many = stream(classes)
    with pytest.raises(ProjectError, match="too many classes"):
        while not many.at_end:
            many.skip()
    fields = [("B", "x")] * javagrammar.MAX_FIELDS
    large = stream(b"".join(b"v" + desc("A", 2, fields) for _ in range(200)))
    with pytest.raises(ProjectError, match="too many fields"):
        while not large.at_end:
            large.skip()


def test_java_stream_number_of_super_classes_is_limited():
    chain = NULL
    for _ in range(javagrammar.MAX_SUPER + 1):
        chain = desc("A", parent=chain)
    with pytest.raises(ProjectError, match="too many classes"):
        read(b"s" + chain)
    # One more each time, by reference to the one before.
    parts = [b"v" + desc("A")] + [b"v" + desc("A", parent=ref(2 * i)) for i in range(40)]
    growing = stream(*parts)
    with pytest.raises(ProjectError, match="too many super classes"):
        while not growing.at_end:
            growing.skip()


def test_java_references_to_incomplete_contents_are_refused():
    data = stream(b"s" + desc("A", 2, [("I", "n"), ("L", "me", string("LA;"))]), bytes(4))
    data.open_object()
    with pytest.raises(ProjectError, match="incomplete content|too early"):
        data.resolve(Ref(2))  # the object that is open
    data = stream(b"s" + desc("A", 2, [("L", "me", string("LA;"))]), NULL)
    data.open_object()
    with pytest.raises(ProjectError, match="incomplete content"):
        data.resolve(Ref(2))
    whole = stream(b"s" + desc("A"))
    whole.skip()
    with pytest.raises(ProjectError, match="tag 72"):
        whole.resolve(Ref(0))  # a class descriptor


def test_java_reference_to_an_open_object_with_new_classes_is_refused():
    inner = b"s" + desc("B")
    data = stream(b"s" + desc("A", 2, [("L", "b", string("LB;"))]), inner)
    data.open_object()
    with pytest.raises(ProjectError, match="incomplete content"):
        data.resolve(Ref(2))


def test_java_references_read_again_are_limited():
    """A chain of n objects, each asked for by reference, would cost n² / 2."""
    count = 400
    chain = b"s" + desc("A", 2, [("[", "x", string("[B")), ("L", "next", string("LA;"))])
    link = b"u" + desc("[B") + struct.pack(">i", 20_000) + bytes(20_000)
    later = b"u" + ref(4) + struct.pack(">i", 20_000) + bytes(20_000)
    body = link + (b"s" + ref(0) + later) * (count - 1) + NULL
    data = stream(chain + body)
    data.skip()
    with pytest.raises(ProjectError, match="refers to its own contents too often"):
        for handle in range(len(data.handles)):
            if data.desc_of(handle) is None:
                data.resolve(Ref(handle))


def test_java_reference_cache_is_bounded():
    count = 20
    text = "x" * 60_000
    data = stream(b"".join(string(text) for _ in range(count)))
    for _ in range(count):
        data.skip()
    first = data.resolve(Ref(0))
    for handle in range(count):
        data.resolve(Ref(handle))
    assert data.resolve(Ref(0)) == first
    assert data.resolve(Ref(0)) is not first
