"""The package as a whole: what is public, what is imported when, what the errors are."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
import types
import typing
from importlib import import_module
from pathlib import Path

import pytest
import typer

import qupath_bridge as qb
from qupath_bridge import errors
from qupath_bridge.cli import main
from qupath_bridge.cli.options import flag_of
from qupath_bridge.config import options

PACKAGE = Path(qb.__file__).parent
FUNCTIONS = [
    "open_project", "inspect", "select", "plan", "estimate", "export", "verify", "report", "status",
    "write_provenance", "write_back", "undo_write_back", "clean", "doctor", "process_slide",
    "open_reader", "open_output", "register", "coverage", "read_index", "split", "check_leakage",
    "convert", "features", "lineage", "describe", "track", "catalog",
    "compact",
]  # fmt: skip
"""What the command line can do, and what a script needs besides."""


def test_the_public_names():
    assert set(FUNCTIONS) <= set(qb.__all__)
    assert len(set(qb.__all__)) == len(qb.__all__)
    for name in qb.__all__:
        assert getattr(qb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qb.nothing  # noqa: B018


@pytest.mark.parametrize("module", [qb, qb.coordinates, qb.geojson], ids=lambda m: m.__name__)
def test_dir_shows_public_names_only(module):
    assert dir(module) == sorted(module.__all__)


def test_type_checkers_see_the_public_names():
    """What stands under ``TYPE_CHECKING`` is what is imported at first use."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for each in block.body for alias in each.names}
    assert seen == set(qb.__all__) - {"__version__"}


def checked_names(module):
    """Return the names of a module, those that only type checkers import included."""
    names = dict(vars(typing)) | vars(module)
    tree = ast.parse(inspect.getsource(module))
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.ImportFrom):
                    base = module.__package__.rsplit(".", node.level - 1)[0] if node.level else ""
                    source = import_module(".".join(filter(None, [base, node.module])))
                    names |= {a.asname or a.name: getattr(source, a.name) for a in node.names}
                elif isinstance(node, ast.Import):
                    names |= {a.asname or a.name: import_module(a.name) for a in node.names}
    return names


def types_in(hint):
    """Yield every class in an annotation, however deep."""
    if isinstance(hint, type):
        yield hint
    if isinstance(hint, list | tuple):
        for each in hint:
            yield from types_in(each)
    for each in typing.get_args(hint):
        yield from types_in(each)


def callables(name):
    """Yield a public function, or the public methods and fields of a class, with their names."""
    value = getattr(qb, name)
    if isinstance(value, types.ModuleType):
        for each in value.__all__:
            if callable(getattr(value, each)):
                yield f"{name}.{each}", getattr(value, each)
    elif isinstance(value, type):
        yield name, value
        for each, member in list(vars(value).items()):
            function = getattr(member, "fget", None) or getattr(member, "func", None) or member
            function = getattr(function, "__func__", function)
            if not each.startswith("_") and isinstance(function, types.FunctionType):
                yield f"{name}.{each}", function
    elif callable(value):
        yield name, value


PUBLIC = [pair for name in qb.__all__ for pair in callables(name)]


def is_exported(kind):
    homes = [qb, qb.coordinates, qb.geojson]
    return any(getattr(home, kind.__name__, None) is kind for home in homes)


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_types_of_public_signatures_are_public(name, value):
    module = sys.modules[value.__module__]
    annotations = {
        key: hint for key, hint in getattr(value, "__annotations__", {}).items()
        if not key.startswith("_")
    }  # fmt: skip
    for key, hint in annotations.items():
        if isinstance(hint, str):
            hint = eval(hint, checked_names(module))
        for kind in types_in(hint):
            if kind.__module__.startswith("qupath_bridge"):
                assert is_exported(kind), f"{name}: {key} is a {kind.__qualname__}"


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_errors_that_a_docstring_names_are_public(name, value):
    text = inspect.getdoc(value) or ""
    _, raises, rest = text.partition("\nRaises\n------\n")
    if not raises:
        return
    found = []
    for line in re.split(r"\n[A-Z][a-z]+\n-+\n", rest)[0].splitlines():
        if line and not line.startswith(" "):
            found += [word.strip() for word in line.split(",")]
    assert found
    for error in found:
        assert issubclass(getattr(qb, error), qb.BridgeError), f"{name} raises {error}"


def test_every_public_name_says_what_it_is():
    for name, value in PUBLIC:
        assert inspect.getdoc(value), name


# --- imports -------------------------------------------------------------------------------------


def modules_after(code):
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print('loaded:', *sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(found.stdout.partition("loaded:")[2].split())


HEAVY = {"numpy", "shapely", "pyarrow", "pydantic", "jpype", "paquo", "openslide", "tifffile"}


def test_importing_loads_nothing_heavy():
    assert not HEAVY & modules_after("import qupath_bridge")


def test_arrow_without_pandas_makes_data_frames_nevertheless():
    pytest.importorskip("pandas")
    arrow = "from qupath_bridge.quick_arrow import import_arrow; import_arrow(); import pyarrow"
    table = "pyarrow.table({'a': [1]})"
    assert "pandas" not in modules_after(f"{arrow}; {table}")
    assert "pandas" in modules_after(f"{arrow}; assert list({table}.to_pandas()['a']) == [1]")


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    assert not HEAVY & modules_after(f"from qupath_bridge.cli import main; main({words})")


def test_help_of_a_command_loads_the_options_alone():
    code = "from qupath_bridge.cli import main; main(['export', '--help'])"
    assert HEAVY & modules_after(code) == {"pydantic"}


def test_help_loads_the_command_line_alone():
    """What makes it quick; the benchmarks measure the seconds."""
    code = "from qupath_bridge.cli import main; main(['--help'])"
    own = {name for name in modules_after(code) if name.startswith("qupath_bridge.")}
    parts = {name.split(".")[1] for name in own}
    assert parts == {"_version", "cli", "errors", "frozen", "job_options"}


@pytest.mark.parametrize(
    ("words", "made"),
    [(["export", "--help"], {"export"}), (["-v", "plan", "-h"], {"plan"}), (["--help"], None)],
)
def test_the_command_that_is_called_is_made_alone(words, made, monkeypatch, capsys):
    found, real = set(), typer.main.get_command_from_info

    def make(command_info, **options):
        found.add(command_info.callback.__name__)
        return real(command_info, **options)

    monkeypatch.setattr(typer.main, "get_command_from_info", make)
    assert main(words) == 0
    assert capsys.readouterr().out
    assert found == made or (made is None and {"export", "plan", "config_show"} < found)


UNUSED_BY_EXPORT = {
    "PIL.ImageDraw",
    "jpype",
    "paquo",
    "pandas",
    "asyncio",
    "filelock",
    "qupath_bridge.pipeline.preview",
    "qupath_bridge.pipeline.stain",
    "qupath_bridge.pipeline.stain_reference",
    "qupath_bridge.pipeline.verify",
    "qupath_bridge.qupath.editing",
    "qupath_bridge.qupath.qpdata.splice",
    "qupath_bridge.qupath.qpdata.writing",
    "qupath_bridge.roundtrip.backups",
    "qupath_bridge.roundtrip.corrections",
    "qupath_bridge.roundtrip.prediction_files",
    "qupath_bridge.roundtrip.runs",
    "qupath_bridge.roundtrip.tile_tables",
    "qupath_bridge.roundtrip.write_back",
    "qupath_bridge.sources.live",
}


def test_a_first_export_loads_what_it_uses_alone(study):
    """Each module takes milliseconds at the start of every command."""
    words = ["export", str(study.project), "--out", str(study.folder / "out"), "--progress", "none"]
    code = f"from qupath_bridge.cli import program; sys.argv[1:] = {words}; program()"
    loaded = modules_after(code)
    assert "qupath_bridge.pipeline.task" in loaded
    assert UNUSED_BY_EXPORT & loaded == set()


def test_an_export_starts_no_other_program(study):
    words = ["export", str(study.project), "--out", str(study.folder / "out"), "--progress", "none"]
    watch = "sys.addaudithook(lambda name, _: name == 'subprocess.Popen' and started.append(name))"
    code = f"started = []; {watch}; from qupath_bridge.cli import main; main({words})"
    assert "subprocess.Popen" not in modules_after(f"{code}; print('loaded:', *started)")


def test_the_program_does_not_look_for_garbage_while_it_starts_and_ends():
    code = (
        "import gc, sys; sys.argv[1:] = ['--version']; from qupath_bridge.cli import program; "
        "program(); print('loaded:', gc.get_threshold()[0], gc.get_freeze_count() > 1000)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    threshold, frozen = found.stdout.partition("loaded: ")[2].split()
    assert int(threshold) >= 10_000
    assert frozen == "True"


def test_the_script_and_the_module_are_the_program():
    scripts = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert scripts["project"]["scripts"]["qupath-bridge"] == "qupath_bridge.cli:program"
    assert "program()" in (PACKAGE / "__main__.py").read_text(encoding="utf-8")


def test_errors_below_the_command_line_name_options_without_dashes():
    """The API and the command line say the same."""
    flags = {flag_of(option) for option in options()} | {"--direct", "--undo", "--out", "--run"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        if {"cli", "testing"} & set(path.relative_to(PACKAGE).parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = set(re.findall(r"--[a-z][a-z-]*", node.value))
                if words & flags and id(node) not in docstrings:
                    found.append(f"{path.name}:{node.lineno}: {node.value}")
    assert found == []


# --- errors --------------------------------------------------------------------------------------


def test_every_error_is_one_of_ours_and_has_a_status():
    statuses = {
        "UsageError": 2, "ConfigError": 3, "ProjectError": 4, "MissingDataError": 4,
        "OutputError": 5, "MissingDependencyError": 6, "InterruptedRunError": 130,
    }  # fmt: skip
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, errors.BridgeError)
            assert kind.exit_code == statuses.get(name, 1)
            assert name == "BridgeError" or name in errors.__doc__


def test_an_error_says_what_where_and_what_next():
    error = errors.ProjectError(
        "a string was cut off", path="data.qpdata", offset=12, expected="40 bytes", hint="Look."
    )
    assert str(error) == "data.qpdata: a string was cut off at byte 12 (expected 40 bytes). Look."
