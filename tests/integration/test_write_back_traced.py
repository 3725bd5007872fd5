"""The system itself stops write-back, or has no more room, wherever it changes the project.

``strace`` lists the calls of one run, which shows that ``faults.py`` stops before each of them: it
works inside of Python, on every system, and this is seen from outside, below all libraries and
buffers. Then ``strace`` interferes with some calls of each kind (``--soak``: with all), in a run of
its own each. And a disk of its own is made, too small by a few kilobytes.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

import qupath_bridge as qb
from qupath_bridge.testing.projects import tree_hashes

from .faults import steps_of
from .test_write_back import bytes_of, copy_of, export, other_files, ways

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Not those that open files: how many there are depends on the other processes of the machine, which
# write-back looks at, so that the same one cannot be found again. faults.py stops before each.
CALLS = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate",
    "truncate", "copy_file_range", "sendfile", "fallocate", "rename", "renameat", "renameat2",
    "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "utimensat", "fsync",
    "fdatasync",
)  # fmt: skip
CALL = re.compile(r"\d+ +(\w+)\((.*)")
FULL = os.strerror(28)
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def command(project, action, run_id):
    what = ["--undo", run_id] if action == "undo" else ["--run", run_id, "--direct"]
    return [
        sys.executable, "-m", "qupath_bridge", "write-back", str(project), *what,
        "--engine", "embedded",
    ]  # fmt: skip


def trace(log, arguments, *interfere):
    """Run a command with strace, which can interfere with calls; return how it ended."""
    traced = [
        "strace", "-f", "-y", "-qq", "-o", str(log),
        "-e", "trace=" + ",".join(f"?{name}" for name in CALLS),
        *(part for each in interfere for part in ("-e", f"inject={each}")), *arguments,
    ]  # fmt: skip
    return subprocess.run(
        traced, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
    )


def calls_that_change(log, folder):
    """Return the calls that change something in a folder, as (name, which one of its kind)."""
    counts, found = Counter(), []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        name, arguments = call.groups()
        counts[name] += 1
        printed = arguments.startswith(("1<", "2<"))
        if str(folder) in arguments and not printed:
            found.append((name, counts[name]))
    return found


@pytest.fixture
def log(tmp_path):
    """The place of strace's list; skips where there is no strace, or no right to trace."""
    path = tmp_path / "calls.log"
    if shutil.which("strace") is None or trace(path, ["true"]).returncode:
        pytest.skip("strace is needed, and the right to trace")
    return path


# How a call of the system is called in faults.py, if not by its own name.
STEPS = {"rename": "replace", "unlinkat": "unlink", "fchmodat": "chmod", "mkdirat": "mkdir"}


@pytest.mark.parametrize("action", ["write", "undo"])
def test_deaths_and_faults_leave_no_call_out(study, log, action):
    """What Python is stopped before is what the system is asked to do."""
    run_id = export(study)
    act, _, _, end = ways(study, run_id, action)
    counted, traced = copy_of(study, "counted"), copy_of(study, "traced")
    steps = Counter(steps_of(lambda: act(counted, run_id)))
    done = trace(log, command(traced.project, action, run_id))
    assert (done.returncode, bytes_of(traced)) == (0, end), done.stderr
    calls = calls_that_change(log, traced.project.parent)
    seen = Counter(STEPS.get(name, name) for name, _ in calls)
    assert seen.keys() <= steps.keys()
    assert 0 < seen.pop("write") <= steps["write"]  # some wait in a buffer for the next
    assert {name: steps[name] for name in seen} == seen


def some_of_each_kind(calls):
    """Return the first, the middle and the last call of each kind.

    The first are for the first slide, the last for the project file, behind all slides.
    """
    kinds = {}
    for call in calls:
        kinds.setdefault(call[0], []).append(call)
    return [
        call
        for each in kinds.values()
        for call in dict.fromkeys((each[0], each[len(each) // 2], each[-1]))
    ]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC"])
@pytest.mark.parametrize("action", ["write", "undo"])
def test_calls_of_the_system_that_fail(study, log, action, fault, soak):
    """After each: the old data or the new, it is said which, and going on makes it whole."""
    run_id = export(study)
    act, revert, begin, end = ways(study, run_id, action)
    others = other_files(study)
    arguments = command(study.project, action, run_id)
    assert trace(log, arguments).returncode == 0
    assert bytes_of(study) == end
    calls = calls_that_change(log, study.project.parent)
    assert {"write", "fsync", "rename", "mkdir"} <= {name for name, _ in calls}
    assert len(calls) >= 25
    seen = set()
    for name, which in calls if soak else some_of_each_kind(calls):
        assert not revert(study, run_id).failed
        assert bytes_of(study) == begin
        done = trace(log, arguments, f"{name}:{fault}:when={which}")
        now = bytes_of(study)
        place = f"{name} {which}: {done.stderr}"
        for content, was, will_be in zip(now, begin, end, strict=True):
            assert content in (was, will_be), place
        seen.add(tuple(a == b for a, b in zip(now, end, strict=True)))
        if fault == "signal=KILL":
            assert done.returncode == -9, place
        else:
            assert_said(done, now, begin, end, place)
        assert not act(study, run_id).failed
        assert bytes_of(study) == end
        assert other_files(study) == others, place
    killed, refused = {(False, False), (True, False)}, {(False, True), (True, False)}
    assert (killed if fault == "signal=KILL" else refused) <= seen


def assert_said(done, now, begin, end, place):
    """A full disk is an error that says which data each image has; else all was done."""
    if done.returncode == 0:
        assert now == end, place
        return
    assert done.returncode in (1, 5), place
    assert FULL in done.stderr, place
    for is_new in (False, True):
        told = done.stderr.count(f"The slide has its {'new' if is_new else 'old'} data.")
        failed = [a for a, b in zip(now, end if is_new else begin, strict=True) if a == b]
        assert told <= len(failed), place
    if done.returncode == 5:  # before any image
        assert now == begin, place


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SMALL_DISK = """
mount -t tmpfs -o size="$1" none "$2" && cp -a "$3/." "$2/" || exit 99
shift 3; "$@"; code=$?
cp -a "$DISK/." "$AFTER/"
exit $code
"""


def on_a_small_disk(pages, source, tmp_path, arguments):
    """Copy a folder to a disk of so many pages, run a command there, and return what is left."""
    disk, after = tmp_path / "disk", tmp_path / "after"
    shutil.rmtree(after, ignore_errors=True)
    disk.mkdir(exist_ok=True)
    after.mkdir()
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", SMALL_DISK, "sh",
         f"{pages * os.sysconf('SC_PAGESIZE')}", str(disk), str(source), *arguments(disk)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**ENVIRONMENT, "DISK": str(disk), "AFTER": str(after)},
    )  # fmt: skip
    return done, after


@pytest.mark.soak
@pytest.mark.parametrize("action", ["write", "undo"])
def test_a_small_disk(study, tmp_path, action, soak):
    """A disk that has from no room at all to enough, in steps of some pages."""
    mount = [*NAMESPACE, "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("unshare is needed, and the right to mount in a namespace")
    run_id = export(study, config=qb.ExportConfig(size=25, edge="pad", min_share=0.4))
    _, _, begin, end = ways(study, run_id, action)
    source = study.project.parent
    changed = ("data.qpdata", "project.qpproj")
    others = {n: v for n, v in tree_hashes(source).items() if not n.endswith(changed)}
    page = os.sysconf("SC_PAGESIZE")
    pages = sum(-(-path.stat().st_size // page) for path in source.rglob("*") if path.is_file())
    ended, seen = [], set()
    while 0 not in ended:
        done, after = on_a_small_disk(
            pages, source, tmp_path, lambda disk: command(disk / "project.qpproj", action, run_id)
        )
        pages += 1 if soak else 8
        if done.returncode == 99:  # not even the project has room
            continue
        ended.append(done.returncode)
        now = [(after / "data" / entry_id / "data.qpdata").read_bytes() for entry_id in "12"]
        for content, was, will_be in zip(now, begin, end, strict=True):
            assert content in (was, will_be), done.stderr
        assert_said(done, now, begin, end, done.stderr)
        assert not list(after.rglob(".qb-tmp-*"))
        assert others.items() <= tree_hashes(after).items()
        seen.add(tuple(a == b for a, b in zip(now, end, strict=True)))
    assert len(ended) > 5
    assert {(False, False), (True, False), (True, True)} == seen
