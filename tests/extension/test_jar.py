"""The jar of the extension: what is in it, and whether a real QuPath has all that it refers to."""

import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import qupath_bridge as qb
from tests.support.class_files import (
    ABSTRACT,
    FINAL,
    PROTECTED,
    PUBLIC,
    STATIC,
    SYNTHETIC,
    Library,
    is_java,
    read_jar,
)

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "qupath_extension" / "stubs" / "target"
OURS = "qupath/ext/patchbridge/"


def test_the_jar_has_the_version_of_the_package(extension_jar):
    with zipfile.ZipFile(extension_jar) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF").decode()
        properties = jar.read(f"{OURS}core/bridge.properties").decode()
    assert re.search(r"^Implementation-Version: (.*?)\r?$", manifest, re.M)[1] == qb.__version__
    assert properties.strip() == f"version={qb.__version__}"


def test_the_jar_carries_the_wheel_of_its_version(extension_jar, tmp_path):
    with zipfile.ZipFile(extension_jar) as jar:
        (name,) = [each for each in jar.namelist() if each.endswith(".whl")]
        jar.extract(name, tmp_path)
    assert name == f"{OURS}core/wheel/qupath_bridge-{qb.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        metadata = wheel.read(f"qupath_bridge-{qb.__version__}.dist-info/METADATA").decode()
        assert "qupath_bridge/__main__.py" in wheel.namelist()
    oldest = re.search(r"^Requires-Python: >=3\.(\d+)$", metadata, re.M)[1]
    source = (
        ROOT
        / "qupath_extension/bridge-core/src/main/java/qupath/ext/patchbridge/core/Interpreters.java"
    )
    assert f"OLDEST_MINOR = {oldest};" in source.read_text(encoding="utf-8")


def test_the_jar_has_our_classes_alone(extension_jar):
    with zipfile.ZipFile(extension_jar) as jar:
        names = {name for name in jar.namelist() if not name.endswith("/")}
    foreign = {name for name in names if not name.startswith((OURS, "META-INF/"))}
    assert not foreign
    service = "META-INF/services/qupath.lib.gui.extensions.QuPathExtension"
    with zipfile.ZipFile(extension_jar) as jar:
        extension = jar.read(service).decode().strip()
        licence = jar.read("META-INF/LICENSE")
    assert f"{extension.replace('.', '/')}.class" in names
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_no_names_in_the_jar_differ_only_in_case(extension_jar):
    """Sources and classes have the same names, and many file systems know no difference."""
    with zipfile.ZipFile(extension_jar) as jar:
        names = Counter(name.lower() for name in jar.namelist())
    assert [name for name, count in names.items() if count > 1] == []


def find_member(library, reference):
    """Return the member that Java finds for a reference, or None."""
    kind = "methods" if reference.descriptor.startswith("(") else "fields"
    for each in library.ancestors(reference.owner):
        for member in getattr(each, kind):
            if (member.name, member.descriptor) == (reference.name, reference.descriptor):
                return member
    return None


def fault_of_reference(library, reference):
    """Say what is wrong with a use of a member, or return None."""
    owner = library.get(reference.owner)
    if owner is None:
        return "no such class"
    member = find_member(library, reference)
    if member is None:
        return "no such member"
    if not member.flags & (PUBLIC | PROTECTED):
        return "not public"
    if reference.static is not None and reference.static != bool(member.flags & STATIC):
        return "static or not, the other way round"
    if reference.descriptor.startswith("(") and reference.interface != owner.is_interface:
        return "interface or class, the other way round"
    return None


def faults_of_class(library, ours, read):
    """Say what is wrong with what one of our classes extends and implements."""
    parents = [*([read.parent] if read.parent else []), *read.interfaces]
    for parent in parents:
        real = library.get(parent)
        if parent in ours or is_java(parent):
            continue
        if real is None:
            yield f"{read.name}: {parent}: no such class"
        elif real.flags & FINAL:
            yield f"{read.name}: {parent} is final"
    if read.flags & ABSTRACT:
        return
    chain = [read]
    while chain[-1].parent in ours:
        chain.append(ours[chain[-1].parent])
    lines = []
    for parent in [each for link in chain for each in [link.parent, *link.interfaces]]:
        lines += [ours[parent]] if parent in ours else library.ancestors(parent)
    written = {
        (member.name, member.descriptor)
        for each in [*chain, *lines]
        for member in each.methods
        if not member.flags & ABSTRACT
    }
    for ancestor in lines:
        for member in ancestor.methods:
            if member.flags & ABSTRACT and (member.name, member.descriptor) not in written:
                yield f"{read.name}: {ancestor.name}.{member.name}{member.descriptor} is missing"


def fault_of_lambda(library, each):
    """Say what is wrong with a lambda: its interface must have that one method to write."""
    methods = {
        (member.name, member.descriptor)
        for ancestor in library.ancestors(each.interface)
        if ancestor.name != "java/lang/Object"
        for member in ancestor.methods
        if member.flags & ABSTRACT
    }
    return None if (each.name, each.descriptor) in methods else f"not among {sorted(methods)}"


@pytest.mark.qupath
def test_qupath_has_all_that_the_jar_refers_to(installation, extension_jar):
    ours = read_jar(extension_jar)
    library = Library(sorted(installation.jars.glob("*.jar")))
    faults, checked = [], 0
    for read in ours.values():
        foreign = {each for each in read.classes - ours.keys() if not is_java(each)}
        faults += [
            f"{read.name}: {each}: no such class" for each in foreign if not library.get(each)
        ]
        faults += faults_of_class(library, ours, read)
        for reference in read.references:
            if reference.owner not in ours and not is_java(reference.owner):
                checked += 1
                fault = fault_of_reference(library, reference)
                faults += [f"{read.name}: {reference}: {fault}"] if fault else []
        for each in read.lambdas:
            if each.interface not in ours and not is_java(each.interface):
                checked += 1
                fault = fault_of_lambda(library, each)
                faults += [f"{read.name}: {each}: {fault}"] if fault else []
    assert checked > 10
    assert not faults, "\n".join(faults)


def differences(library, stub, real):
    """Say in which declared members a stub differs from the class that it stands for."""
    if stub.is_interface != real.is_interface:
        yield "interface or class"
    members = {(each.name, each.descriptor): each for each in [*real.methods, *real.fields]}
    for each in [*stub.methods, *stub.fields]:
        if each.flags & SYNTHETIC or not each.flags & (PUBLIC | PROTECTED):
            continue
        other = members.get((each.name, each.descriptor))
        if other is None:
            yield f"{each.name}{each.descriptor}: not there"
        else:
            yield from member_differences(library, each, other)


def member_differences(library, stub, real):
    mask = PUBLIC | PROTECTED | STATIC
    if stub.flags & mask != real.flags & mask:
        yield f"{stub.name}: public, protected or static"
    if real.flags & ABSTRACT and not stub.flags & ABSTRACT:
        yield f"{stub.name}: abstract"
    if real.flags & FINAL and not stub.flags & FINAL and not real.flags & STATIC:
        yield f"{stub.name}: final"
    if checked(library, stub) != checked(library, real):
        yield f"{stub.name}: throws {real.exceptions}"
    if stub.signature != real.signature:
        yield f"{stub.name}: {real.signature}, not {stub.signature}"


def checked(library, member):
    """Return the exceptions that the compiler wants to be caught."""
    unchecked = {"java/lang/RuntimeException", "java/lang/Error"}
    return {
        each
        for each in member.exceptions
        if not unchecked & {ancestor.name for ancestor in library.ancestors(each)}
    }


@pytest.mark.qupath
def test_the_stubs_say_what_qupath_says(installation):
    if not STUBS.is_dir():
        pytest.skip("no stubs: make extension builds them")
    stubs = read_jar(next(STUBS.glob("stubs-*.jar")))
    library = Library(sorted(installation.jars.glob("*.jar")))
    faults = []
    for name, stub in stubs.items():
        real = library.get(name)
        found = ["no such class"] if real is None else differences(library, stub, real)
        faults += [f"{name}: {each}" for each in found]
    assert not faults, "\n".join(faults)
