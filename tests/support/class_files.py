"""Java's class files as far as needed to compare what one jar refers to with what others have."""

import io
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

PUBLIC, STATIC, FINAL, INTERFACE, ABSTRACT = 0x1, 0x8, 0x10, 0x200, 0x400
PROTECTED, SYNTHETIC = 0x4, 0x1000

STATIC_USE = {0xB2, 0xB3, 0xB8}  # getstatic, putstatic, invokestatic
INSTANCE_USE = {0xB4, 0xB5, 0xB6, 0xB7, 0xB9}  # getfield … invokeinterface
OPERANDS = (
    dict.fromkeys([0x10, 0x12, *range(0x15, 0x1A), *range(0x36, 0x3B), 0xA9, 0xBC], 1)
    | dict.fromkeys([0x11, 0x13, 0x14, 0x84, *range(0x99, 0xA9), *range(0xB2, 0xB9)], 2)
    | dict.fromkeys([0xBB, 0xBD, 0xC0, 0xC1, 0xC6, 0xC7], 2)
    | {0xC5: 3}
    | dict.fromkeys([0xB9, 0xBA, 0xC8, 0xC9], 4)
)
"""Bytes behind each instruction, as The Java Virtual Machine Specification lists them; 0 else."""


@dataclass(frozen=True)
class Member:
    name: str
    descriptor: str
    flags: int
    signature: str | None
    """With type parameters; None if the descriptor says all."""
    exceptions: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """A use of a member; ``static`` is None if the class file does not tell."""

    owner: str
    name: str
    descriptor: str
    interface: bool
    static: bool | None


@dataclass(frozen=True)
class Lambda:
    """A lambda or method reference: the interface that it is, and the method it stands for."""

    interface: str
    name: str
    descriptor: str


@dataclass
class ClassFile:
    name: str
    flags: int
    parent: str | None
    interfaces: tuple[str, ...]
    fields: list[Member]
    methods: list[Member]
    classes: set[str] = field(default_factory=set)
    """All classes that are named anywhere."""
    references: set[Reference] = field(default_factory=set)
    lambdas: set[Lambda] = field(default_factory=set)

    @property
    def is_interface(self):
        return bool(self.flags & INTERFACE)


class _Reader:
    def __init__(self, data):
        self._stream = io.BytesIO(data)

    def take(self, form):
        values = struct.unpack(f">{form}", self._stream.read(struct.calcsize(f">{form}")))
        return values[0] if len(values) == 1 else values

    def bytes(self, count):
        return self._stream.read(count)


def read_class(data):
    """Read one class file."""
    reader = _Reader(data)
    magic, _, major = reader.take("IHH")
    assert magic == 0xCAFEBABE and major < 100
    pool = _read_pool(reader)
    flags, this, parent = reader.take("HHH")
    interfaces = tuple(pool.class_name(reader.take("H")) for _ in range(reader.take("H")))
    found = ClassFile(
        pool.class_name(this),
        flags,
        pool.class_name(parent) if parent else None,
        interfaces,
        [],
        [],
    )
    opcodes = {}
    found.fields = _read_members(reader, pool, opcodes)
    found.methods = _read_members(reader, pool, opcodes)
    bootstraps = [body for name, body in _attributes(reader, pool) if name == "BootstrapMethods"]
    found.classes = pool.all_classes() | {
        name for member in [*found.fields, *found.methods] for name in _named(member.descriptor)
    }
    found.references = pool.references(opcodes)
    found.lambdas = pool.lambdas(_read_bootstraps(bootstraps[0]) if bootstraps else [])
    return found


@dataclass
class _Pool:
    entries: dict

    def text(self, index):
        return self.entries[index][1]

    def class_name(self, index):
        return self.text(self.entries[index][1])

    def name_and_type(self, index):
        _, (name, kind) = self.entries[index]
        return self.text(name), self.text(kind)

    def all_classes(self):
        names = {self.text(value) for tag, value in self.entries.values() if tag == 7}
        texts = [self.text(value[1]) for tag, value in self.entries.values() if tag == 12]
        texts += [self.text(value) for tag, value in self.entries.values() if tag == 16]
        plain = {name for name in names if not name.startswith("[")}
        return plain | {each for text in [*texts, *(names - plain)] for each in _named(text)}

    def references(self, opcodes):
        found = set()
        for tag, value in self.entries.values():
            if tag == 15:  # a method reference: 2, 4 and 6 are static
                opcodes.setdefault(value[1], set()).add(value[0] in (2, 4, 6))
        for index, (tag, value) in self.entries.items():
            if tag in (9, 10, 11):
                owner, (name, kind) = self.class_name(value[0]), self.name_and_type(value[1])
                uses = opcodes.get(index) or {None}
                found |= {Reference(owner, name, kind, tag == 11, use) for use in uses}
        return {each for each in found if not each.owner.startswith("[")}

    def lambdas(self, bootstraps):
        found = set()
        for tag, value in self.entries.values():
            if tag == 18:
                name, kind = self.name_and_type(value[1])
                method, arguments = bootstraps[value[0]]
                member = self.entries[self.entries[method][1][1]][1]
                if self.class_name(member[0]) == "java/lang/invoke/LambdaMetafactory":
                    shape = self.text(self.entries[arguments[0]][1])
                    found.add(Lambda(kind.rpartition(")L")[2].rstrip(";"), name, shape))
        return found


def _named(descriptor):
    return re.findall(r"L([^;<]+);", descriptor)


def _read_pool(reader):
    entries, index, count = {}, 1, reader.take("H")
    while index < count:
        tag = reader.take("B")
        if tag == 1:
            value = reader.bytes(reader.take("H")).decode("utf-8", "surrogatepass")
        elif tag in (7, 8, 16, 19, 20):
            value = reader.take("H")
        elif tag == 15:
            value = reader.take("BH")
        elif tag in (3, 4):
            value = reader.bytes(4)
        elif tag in (5, 6):
            value = reader.bytes(8)
        else:
            value = reader.take("HH")
        entries[index] = (tag, value)
        index += 2 if tag in (5, 6) else 1
    return _Pool(entries)


def _attributes(reader, pool):
    found = []
    for _ in range(reader.take("H")):
        name, size = reader.take("HI")
        found.append((pool.text(name), reader.bytes(size)))
    return found


def _read_members(reader, pool, opcodes):
    members = []
    for _ in range(reader.take("H")):
        flags, name, kind = reader.take("HHH")
        signature, exceptions = None, ()
        for attribute, body in _attributes(reader, pool):
            if attribute == "Signature":
                signature = pool.text(struct.unpack(">H", body)[0])
            elif attribute == "Exceptions":
                count = len(body) // 2 - 1
                exceptions = tuple(
                    pool.class_name(each) for each in struct.unpack(f">{count}H", body[2:])
                )
            elif attribute == "Code":
                _read_code(body, opcodes)
        members.append(Member(pool.text(name), pool.text(kind), flags, signature, exceptions))
    return members


def _read_code(body, opcodes):
    """Note for each entry of the pool whether instructions use it as static."""
    size = struct.unpack(">I", body[4:8])[0]
    code, at = body[8 : 8 + size], 0
    while at < size:
        opcode = code[at]
        if opcode in STATIC_USE | INSTANCE_USE:
            entry = struct.unpack(">H", code[at + 1 : at + 3])[0]
            opcodes.setdefault(entry, set()).add(opcode in STATIC_USE)
        if opcode in (0xAA, 0xAB):  # tableswitch, lookupswitch: aligned tables
            table = at + 4 - at % 4
            first, second = struct.unpack(">ii", code[table + 4 : table + 12])
            at = table + (12 + 4 * (second - first + 1) if opcode == 0xAA else 8 + 8 * first)
        elif opcode == 0xC4:  # wide
            at += 6 if code[at + 1] == 0x84 else 4
        else:
            at += 1 + OPERANDS.get(opcode, 0)
    assert at == size


def _read_bootstraps(body):
    reader, found = _Reader(body), []
    for _ in range(reader.take("H")):
        method, count = reader.take("HH")
        found.append((method, [reader.take("H") for _ in range(count)]))
    return found


def read_jar(path):
    """Read all classes of a jar, by name."""
    found = {}
    with zipfile.ZipFile(path) as jar:
        for name in jar.namelist():
            if name.endswith(".class") and not name.startswith("META-INF/"):
                read = read_class(jar.read(name))
                found[read.name] = read
    return found


class Library:
    """The classes of many jars, read when they are needed, and those of Java itself."""

    def __init__(self, jars):
        self._places = {}
        for path in jars:
            with zipfile.ZipFile(path) as jar:
                for name in jar.namelist():
                    if name.endswith(".class"):
                        self._places.setdefault(name.removesuffix(".class"), path)
        self._read = {}

    def get(self, name):
        """Return a class, or None."""
        if name not in self._read:
            place = self._places.get(name)
            if place is not None:
                with zipfile.ZipFile(place) as jar:
                    self._read[name] = read_class(jar.read(f"{name}.class"))
            else:
                self._read[name] = java_class(name) if is_java(name) else None
        return self._read[name]

    def ancestors(self, name):
        """Return a class and all that it extends and implements, Object at last."""
        found, waiting = {}, [name]
        while waiting:
            each = waiting.pop(0)
            read = self.get(each)
            if each not in found and read is not None:
                found[each] = read
                waiting += [*([read.parent] if read.parent else []), *read.interfaces]
        found.setdefault("java/lang/Object", self.get("java/lang/Object"))
        return list(found.values())


def is_java(name):
    """Whether a class is one of Java itself: whoever compiles for Java 17 knows those."""
    return name.startswith(("java/", "javax/"))


@cache
def java_class(name):
    """Return a class of Java itself, with public and protected members as javap prints them."""
    program = shutil.which("javap")
    assert program, "javap of a JDK is needed to look at classes of Java"
    done = subprocess.run(
        [program, "-s", "-protected", name.replace("/", ".")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    head = next(line for line in lines if re.search(r"\b(class|interface)\b", line))
    plain = head.rstrip(" {")
    while "<" in plain:
        plain = re.sub(r"<[^<>]*>", "", plain)
    parents = re.split(r"[ ,]+", (re.findall(r"(?:extends|implements) (.*)", plain) or [""])[0])
    parents = [each.replace(".", "/") for each in parents if "." in each]
    flags = INTERFACE if "interface " in plain else 0
    found = ClassFile(name, flags | PUBLIC, None, tuple(parents), [], [])
    for declared, described in pairwise(lines):
        if described.strip().startswith("descriptor: "):
            descriptor = described.split()[-1]
            declared_name = declared.partition("(")[0].rstrip(";").split()[-1]
            short = "<init>" if declared_name == name.replace("/", ".") else declared_name
            words = declared.split()
            kind = PROTECTED if "protected" in words else PUBLIC
            kind |= (STATIC if "static" in words else 0) | (ABSTRACT if "abstract" in words else 0)
            kind |= FINAL if "final" in words else 0
            member = Member(short, descriptor, kind, None, ())
            (found.methods if "(" in descriptor else found.fields).append(member)
    return found
